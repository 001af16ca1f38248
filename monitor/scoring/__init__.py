"""Turn samples into one score per segment. Pure: NumPy and the standard library, no clock, no files, no threads."""
