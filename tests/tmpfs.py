"""A disk of its own, as small as a test wants it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import need


@contextmanager
def tmpfs(folder: Path, *, n_bytes: int) -> Iterator[Path]:
    """One of about so many bytes, in whole pages."""
    need(os.geteuid() == 0 and shutil.which("mount") is not None, "root, to mount a tmpfs")
    where = folder / "disk"
    where.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", where], capture_output=True, check=False)
    need(done.returncode == 0, "the right to mount a tmpfs")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)
