"""Calibration methods: from held-out normal scores to thresholds, and what they can promise."""
