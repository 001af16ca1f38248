"""Sources: where blocks come from."""
