"""The formats of releases, shared by `train release` and the devices: the index of a group, and the archive of a bundle."""
