"""Benchmarks. Each one prints tables, writes them with `--json`, and compares with a peer in the same run."""
