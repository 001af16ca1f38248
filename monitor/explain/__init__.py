"""Explain why a segment is abnormal: frequency bands, impulses and a summary. Pure, and independent of scores."""
