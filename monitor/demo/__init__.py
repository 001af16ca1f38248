"""The demonstration: the service with recordings in place of microphones. Nothing else may import this room."""
