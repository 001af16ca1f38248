"""The page: a process of its own that shows browsers the running service; it never loads NumPy or touches the service's files."""
