"""Sounds that several benchmarks judge."""
