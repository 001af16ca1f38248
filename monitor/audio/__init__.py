"""Where samples come from: microphones and recordings, as blocks. The only room that knows PortAudio and sound files."""
