"""From recordings to what a network is trained on: the device's frames, cached on disk, and windows over them."""
