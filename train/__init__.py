"""From recordings of normal sound to a bundle; runs on a workstation."""
