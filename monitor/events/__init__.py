"""Turn scores into events: thresholds, onsets, ends. Pure: the time is passed in."""
