"""The pure core: NumPy and the standard library, no I/O, no clock, no threads."""
