"""Files of the state directory that root writes belong to the service, which has a user of its own."""

import os
from contextlib import suppress
from pathlib import Path


def give(state_dir: Path, *paths: Path) -> None:
    """Give the paths to the owner of the state directory, where root has written them."""
    owner = state_dir.stat()
    if os.geteuid() == 0:
        for path in paths:
            with suppress(OSError):
                os.chown(path, owner.st_uid, owner.st_gid)
