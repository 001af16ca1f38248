"""The queue of messages that are not delivered yet: an SQLite file of bounded size, or memory while the disk fails."""

import logging
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from monitor.events.event import Severity
from monitor.files import OpenFiles
from monitor.notify.database import COLUMNS, MEMORY, connect, copy, transaction
from monitor.notify.message import Message

log = logging.getLogger(__name__)
DISK_RETRY_S = 30.0
CHECK_S = 1.0  # how soon a file that was deleted or replaced is detected
REPLACED = "it was deleted or replaced while it was open"
SIZE = "length(CAST(title AS BLOB)) + length(CAST(body AS BLOB)) + coalesce(length(picture), 0)"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of the queue."""

    messages: int = 1_000
    n_bytes: int = 16_000_000


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A queued message without its text."""

    row: int
    target: str
    event: str
    severity: Severity
    has_picture: bool


class NotifyQueue:
    """Messages in the order in which they were added. Used by one thread; every change is on disk when its method returns.

    Nothing touches the disk before the first `check_disk`. While the file cannot be used, messages are kept in memory. They are
    moved to the disk once it works again.
    """

    def __init__(self, path: Path, limits: Limits | None = None, *, retry_s: float = DISK_RETRY_S) -> None:
        self.n_dropped = 0
        self.n = 0
        self.error: str | None = None  # the reason why messages are in memory only
        self._path = path
        self._limits = limits or Limits()
        self._retry_s = retry_s
        self._check_at = 0.0
        self._db = connect(MEMORY)
        self._is_on_disk = False
        self._unread = True  # there may be messages on disk that are not in memory
        self._files = OpenFiles()

    def add(self, messages: Sequence[Message]) -> None:
        """Append messages. The oldest warnings are dropped if there is no room, then the oldest alarms."""
        rows = [(one.target, one.event, one.severity, one.title, one.body, None) for one in messages]
        self._change(f"INSERT INTO message ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows)
        self._make_room()

    def attach(self, event: str, picture: bytes) -> None:
        """Add the picture of an event to its messages that have none."""
        self._change("UPDATE message SET picture = ? WHERE event = ? AND picture IS NULL", [(picture, event)])
        self._make_room()

    def remove(self, row: int) -> None:
        """Remove a delivered message."""
        self._change("DELETE FROM message WHERE row = ?", [(row,)])

    def drop(self, rows: Sequence[int]) -> None:
        """Remove messages that are not delivered."""
        self._change("DELETE FROM message WHERE row = ?", [(row,) for row in rows])
        self.n_dropped += len(rows)

    def waiting(self) -> list[Waiting]:
        """All messages, the oldest first."""
        try:
            found = self._db.execute(
                "SELECT row, target, event, severity, picture IS NOT NULL FROM message ORDER BY row"
            ).fetchall()
        except sqlite3.Error as error:
            self._to_memory(error)
            return []
        return [
            Waiting(
                row=row, target=target, event=event, severity="alarm" if severity == "alarm" else "warning", has_picture=bool(has)
            )
            for row, target, event, severity, has in found
        ]

    def read(self, waiting: Waiting) -> tuple[Message, bytes | None] | None:
        """A message and its picture; None if it cannot be read."""
        try:
            found = self._db.execute("SELECT title, body, picture FROM message WHERE row = ?", (waiting.row,)).fetchone()
        except sqlite3.Error as error:
            self._to_memory(error)
            return None
        if found is None:
            return None
        title, body, picture = found
        message = Message(target=waiting.target, event=waiting.event, severity=waiting.severity, title=title, body=body)
        return message, picture

    def check_disk(self) -> None:
        """Open the file, detect whether it was deleted, and return to the disk once it works again. Cheap to call often."""
        if time.monotonic() < self._check_at:
            return
        self._check_at = time.monotonic() + CHECK_S
        if self._is_on_disk:
            if not self._files.are_replaced():
                return
            self._to_memory(sqlite3.DatabaseError(REPLACED))
            self._set_aside()
        try:
            disk = self._open()
            try:
                with transaction(disk):
                    if not self._unread:  # those on disk are in memory, too, unless they have been sent since
                        disk.execute("DELETE FROM message")
                    copy(self._db, disk, keeps_rows=not self._unread)
            except sqlite3.Error:
                disk.close()
                raise
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return
        self._db.close()
        if self.error is not None:
            log.info("notify: messages are on disk again, in %s", self._path)
        self._db, self._is_on_disk, self.error, self._unread = disk, True, None, False
        self._files = OpenFiles(self._path, self._path.with_name(f"{self._path.name}-wal"))
        self._count()

    def close(self) -> None:
        """Close the file. Messages in memory are moved to the disk if it works again."""
        self._check_at = 0.0
        self.check_disk()
        self._db.close()

    def _change(self, query: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Make a change for each row of parameters, in one transaction."""
        try:
            self._try_change(query, rows)
        except sqlite3.Error as error:
            if not self._is_on_disk:
                raise
            self._to_memory(error)
            self._try_change(query, rows)

    def _try_change(self, query: str, rows: Sequence[tuple[object, ...]]) -> None:
        with transaction(self._db):
            self._db.executemany(query, rows)
        self._count()

    def _count(self) -> None:
        with suppress(sqlite3.Error):
            self.n = self._db.execute("SELECT count(*) FROM message").fetchone()[0]

    def _make_room(self) -> None:
        """Remove as many messages as are beyond the limits."""
        try:
            sizes = self._db.execute(f"SELECT row, {SIZE} FROM message ORDER BY severity = 'alarm', row").fetchall()
        except sqlite3.Error as error:
            self._to_memory(error)
            return
        n, n_bytes = len(sizes), sum(size for _, size in sizes)
        dropped = []
        for row, size in sizes:
            if n <= self._limits.messages and n_bytes <= self._limits.n_bytes:
                break
            dropped.append(row)
            n, n_bytes = n - 1, n_bytes - size
        if dropped:
            self.drop(dropped)

    def _to_memory(self, error: sqlite3.Error) -> None:
        """Continue in memory with what can be read."""
        memory = connect(MEMORY)
        try:
            copy(self._db, memory, keeps_rows=True)  # a message may be in flight, and is removed by its number
        except sqlite3.Error as second:
            self._unread = isinstance(second, sqlite3.OperationalError)  # perhaps it can be read later
        self._db.close()
        self._db, self._is_on_disk = memory, False
        self._failed(error)
        self._count()

    def _failed(self, error: Exception) -> None:
        self._check_at = time.monotonic() + self._retry_s
        if self.error is None:
            log.error("notify: cannot write %s, messages are in memory only: %s", self._path, error)
        self.error = str(error)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return connect(self._path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            log.error("notify: moved %s aside and created a new one: %s", self._path, error)
            self._set_aside()
            return connect(self._path)

    def _set_aside(self) -> None:
        with suppress(OSError):
            self._path.replace(self._path.with_suffix(".corrupt"))
        for suffix in ("-wal", "-shm"):
            with suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()
