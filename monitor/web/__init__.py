"""The page and its interface: a process of its own that talks to the service over the control socket."""
