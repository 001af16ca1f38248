"""From scores to events: thresholds, onsets, ends. Pure: time is handed in."""
