"""Messages to people: which are due, their queue on disk, and the child process that sends them with Apprise."""
