"""The place of the outbox: on disk, or in memory while the disk is full or not writable.

This works in whatever state the file is.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from monitor.mqtt.outbox import Limits, Outbox, OutboxRow

log = logging.getLogger(__name__)
MEMORY = ":memory:"
BEYOND = 2**40  # first row number in memory while the content of the file is unknown
Change = Callable[[Outbox], object]


class Store:
    """The outbox and its fallback in memory, used by one thread."""

    def __init__(self, path: Path, limits: Limits, *, clock_synced: bool, retry_s: float = 60.0) -> None:
        """The first change must be `end_open`."""
        self.error: str | None = None  # reason why events are in memory only
        self._path, self._limits = path, limits
        self._clock_synced = clock_synced
        self._retry_s = retry_s
        self._tried_at = time.monotonic()
        self._has_read = True  # whether the rows of an earlier run have been read
        try:
            self.outbox = self._open()
        except (sqlite3.Error, OSError) as error:
            self._has_read = False
            self.outbox = Outbox(MEMORY, limits, first_row=BEYOND)
            self._log_error(error)

    def end_open(self, outbox: Outbox) -> None:
        """End the anomalies that an earlier run left open."""
        outbox.end_open(datetime.now(timezone.utc), clock_synced=self._clock_synced)

    def change(self, changes: Sequence[Change]) -> bool:
        """Apply all changes in one transaction, on disk if possible. Returns False while another process has locked the file."""
        try:
            with self.outbox.transaction():
                for change in changes:
                    change(self.outbox)
        except sqlite3.Error as error:
            if _is_locked(error):
                return False
            if self.error is not None:
                raise
            self._fall_back(error)
            return self.change(changes)
        return True

    def after(self, row: int, limit: int) -> list[OutboxRow]:
        """The next rows to send; none if they cannot be read at the moment."""
        try:
            return self.outbox.after(row, limit)
        except sqlite3.Error as error:
            if not _is_locked(error):
                self._fall_back(error)
            return []

    def retry_disk(self) -> None:
        """Return to the disk once it works again. Tries at most once per `retry_s`."""
        if self.error is None or time.monotonic() - self._tried_at < self._retry_s:
            return
        self._tried_at = time.monotonic()
        try:
            self._return_to_disk(self._open())
        except (sqlite3.Error, OSError) as error:
            self._log_error(error)

    def _return_to_disk(self, disk: Outbox) -> None:
        try:
            if self._has_read:
                self.outbox.copy_to(disk)
            else:
                with disk.transaction():
                    self.end_open(disk)
                    disk.absorb(self.outbox)
        except sqlite3.Error:
            disk.close()
            raise
        self.outbox.close()
        self.outbox, self.error, self._has_read = disk, None, True
        log.info("outbox: events are on disk again, in %s", self._path)

    def _fall_back(self, error: sqlite3.Error) -> None:
        memory = Outbox(MEMORY, self._limits, first_row=BEYOND)
        try:
            self.outbox.copy_to(memory)
        except sqlite3.Error as second:
            memory.totals = replace(memory.totals, n_dropped=self.outbox.totals.n_dropped + self.outbox.totals.n)
            self.outbox.close()
            self._set_aside(second)
        self.outbox.close()
        self.outbox = memory
        self._log_error(error)

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
        log.error("outbox: %s cannot be read; moved it to %s and created a new one: %s", self._path, aside.name, error)

    def _log_error(self, error: Exception) -> None:
        if self.error is None:
            log.error("outbox: cannot write %s, events are in memory only: %s", self._path, error)
        self.error = str(error)


def _is_locked(error: sqlite3.Error) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
