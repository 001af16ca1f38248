"""The sound and the picture of each event, as files. It may touch the disk, on a background thread."""
