"""From scores of held-out normal sound to thresholds, and the expected rates of false events."""
