"""Where the outbox lives: on disk, or in memory while the disk is full or cannot be written, whatever state it was found in."""

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from monitor.mqtt.outbox import Limits, Outbox, Row

log = logging.getLogger(__name__)
MEMORY = ":memory:"
BEYOND = 2**40  # memory numbers its rows from here where it does not know what the file holds
Change = Callable[[Outbox], object]


class Store:
    """The outbox and its fallback, used by one thread. A file that another process has locked is waited for."""

    def __init__(
        self, path: Path, limits: Limits, *, clock_synced: bool, may_wait: Callable[[], bool], retry_s: float = 60.0
    ) -> None:
        self.trouble: str | None = None  # why events are in memory only
        self._path, self._limits = path, limits
        self._end_open = partial(_end_open, clock_synced=clock_synced)
        self._may_wait = may_wait
        self._retry_s = retry_s
        self._tried = time.monotonic()
        self._has_read = True  # what an earlier run has left in the file
        try:
            self.outbox = self._open()
        except (sqlite3.Error, OSError) as error:
            self._has_read = False
            self.outbox = Outbox(MEMORY, limits, first_row=BEYOND)
            self._tell(error)
        self.change([self._end_open])

    def change(self, changes: Sequence[Change]) -> bool:
        """Do it all in one transaction, on disk where possible; False where stopping did not let it wait for a locked file."""
        while not self._attempt(changes):
            if not self._may_wait():
                return False
        return True

    def _attempt(self, changes: Sequence[Change]) -> bool:
        """False while the file is locked."""
        try:
            with self.outbox.transaction():
                for change in changes:
                    change(self.outbox)
        except sqlite3.Error as error:
            if _is_locked(error):
                return False
            if self.trouble is not None:
                raise
            self._go_to_memory(error)
            return self._attempt(changes)
        return True

    def after(self, row: int, limit: int) -> list[Row]:
        """The next rows to send; none where they cannot be read just now."""
        try:
            return self.outbox.after(row, limit)
        except sqlite3.Error as error:
            if not _is_locked(error):
                self._go_to_memory(error)
            return []

    def retry_disk(self) -> None:
        """Move back to disk where it works again; tries once in `retry_s`."""
        if self.trouble is None or time.monotonic() - self._tried < self._retry_s:
            return
        self._tried = time.monotonic()
        try:
            self._return_to_disk(self._open())
        except (sqlite3.Error, OSError) as error:
            self._tell(error)

    def _return_to_disk(self, disk: Outbox) -> None:
        try:
            if self._has_read:
                self.outbox.copy_to(disk)
            else:
                with disk.transaction():
                    self._end_open(disk)
                    disk.absorb(self.outbox)
        except sqlite3.Error:
            disk.close()
            raise
        self.outbox.close()
        self.outbox, self.trouble, self._has_read = disk, None, True
        log.info("outbox: events are on disk again, in %s", self._path)

    def _go_to_memory(self, error: sqlite3.Error) -> None:
        memory = Outbox(MEMORY, self._limits, first_row=BEYOND)
        try:
            self.outbox.copy_to(memory)
        except sqlite3.Error as second:
            memory.totals = replace(memory.totals, n_dropped=self.outbox.totals.n_dropped + self.outbox.totals.n)
            self.outbox.close()
            self._set_aside(second)
        self.outbox.close()
        self.outbox = memory
        self._tell(error)

    def _open(self) -> Outbox:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return Outbox(self._path, self._limits)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            return Outbox(self._path, self._limits)

    def _set_aside(self, error: sqlite3.Error) -> None:
        aside = self._path.with_suffix(".corrupt")
        with suppress(OSError):
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        log.error("outbox: %s cannot be read, is kept as %s, and a new one begins: %s", self._path, aside.name, error)

    def _tell(self, error: Exception) -> None:
        if self.trouble is None:
            log.error("outbox: %s cannot be written, events are in memory only: %s", self._path, error)
        self.trouble = str(error)


def _end_open(outbox: Outbox, *, clock_synced: bool) -> None:
    outbox.end_open(datetime.now(timezone.utc), clock_synced=clock_synced)


def _is_locked(error: sqlite3.Error) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
