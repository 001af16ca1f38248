"""The command `train`: one module per subcommand; `add` declares it, `_run` runs it."""
