"""Benchmarks: each prints one table and compares with a peer in the same run."""
