"""Read the history of a service that is not running, without changing anything in its state directory."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from monitor.errors import SourceError
from monitor.files import as_owner
from monitor.history.database import Database, Limits
from monitor.history.history import FILE

MAX_BYTES = 10**11


@contextmanager
def stored_history(state_dir: Path) -> Iterator[Database]:
    """A copy of the history, opened. SourceError if there is none, or if it cannot be read.

    A copy, because SQLite would write to the directory, or ignore what a killed service wrote last.
    """
    with tempfile.TemporaryDirectory(prefix="stethos-") as folder:
        copy = Path(folder) / FILE
        try:
            for suffix in ("", "-wal"):
                _copy(state_dir, f"{FILE}{suffix}", copy.with_name(f"{FILE}{suffix}"), is_optional=bool(suffix))
            database = Database(copy, Limits(events=0, n_bytes=0), is_read_only=True)
        except FileNotFoundError:
            raise SourceError(f"{state_dir / FILE}: there is no history; has the service run with this state_dir?") from None
        except PermissionError as error:
            raise SourceError(f"{state_dir / FILE}: this user may not read the history; use sudo") from error
        except (OSError, sqlite3.Error, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SourceError(f"{state_dir / FILE}: cannot be read: {reason}") from error
        with closing(database):
            try:
                yield database
            except (sqlite3.Error, UnicodeError) as error:
                raise SourceError(f"{state_dir / FILE}: cannot be read: {error}") from error


def _copy(folder: Path, name: str, copy: Path, *, is_optional: bool) -> None:
    """Copy a file, which must not be a link, with the rights of the folder's owner."""
    with as_owner(folder) as place:
        try:
            fd = os.open(place / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            if is_optional:
                return
            raise
    with os.fdopen(fd, "rb") as source, copy.open("xb") as target:
        shutil.copyfileobj(source, target)
