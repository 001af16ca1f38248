"""Install bundles on this node: fetched from a signed repository or given as a file, checked, compared, and undone if worse."""
