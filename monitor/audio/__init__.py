"""Audio sources: microphones and recordings, read as blocks. Only `capture` uses PortAudio."""
