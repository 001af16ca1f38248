"""Locks that die with their process."""

import fcntl
import os
from pathlib import Path


def lock(path: Path) -> int:
    """Hold the lock that dies with its process; BlockingIOError where another holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
