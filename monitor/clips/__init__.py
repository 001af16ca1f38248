"""The sound and the picture of each event, as files. It may access the disk, on a background thread."""
