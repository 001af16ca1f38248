"""`monitor setup`: from a plugged-in microphone to a running service, by questions."""
