"""From samples to one score a segment. Pure: NumPy and the standard library, no clock, no files, no threads."""
