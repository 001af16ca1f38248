"""From normal sound to statistics and thresholds, on the device as on a workstation."""
