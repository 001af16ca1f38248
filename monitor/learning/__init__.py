"""From normal sound to statistics and thresholds, on the device and on a workstation. No files but those of sessions."""
