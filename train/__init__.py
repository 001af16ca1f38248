"""Turn recordings of normal sound into a bundle, on a workstation."""
