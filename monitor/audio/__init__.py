"""Audio sources: microphones and recordings, read as blocks. Only this package uses PortAudio and libsndfile."""
