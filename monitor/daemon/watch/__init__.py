"""The requests of the control socket beyond `status`: what the page and the tools see, ask and command."""
