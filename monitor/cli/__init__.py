"""The `monitor` command: one module per subcommand."""
