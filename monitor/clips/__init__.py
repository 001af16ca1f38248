"""The sound and the picture of each event, as files."""
