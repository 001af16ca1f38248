"""Replay: run recordings through the same monitor as live sound, one file or several at a time."""
