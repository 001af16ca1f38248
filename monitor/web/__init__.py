"""The page, its interface and the metrics: a process of its own that sees the service through its control socket only."""
