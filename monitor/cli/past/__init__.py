"""Commands that print the past: events and scores."""
