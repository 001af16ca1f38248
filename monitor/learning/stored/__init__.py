"""Learned sound as frames on disk: the format, finished sessions, and one that a restart has interrupted."""
