"""What tools and people ask of the running service: the control socket, commands, and shared microphones."""
