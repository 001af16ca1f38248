"""Turn normal sound into statistics and thresholds, on the device and on a workstation. Accesses no files but sessions."""
