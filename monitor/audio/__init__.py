"""Sources of sound: microphones and recordings, as blocks. Only this package uses PortAudio and libsndfile."""
