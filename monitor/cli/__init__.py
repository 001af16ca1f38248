"""The `monitor` command, one file a verb."""
