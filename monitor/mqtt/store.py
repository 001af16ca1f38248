"""The place of the outbox: on disk, or in memory while the disk is full or not writable.

This works in whatever state the file is, and whatever other programs do to it.
"""

import logging
import sqlite3
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from monitor.files import OpenFiles
from monitor.log_limit import of_kind
from monitor.mqtt.outbox import Limits, Outbox, OutboxRow

log = logging.getLogger(__name__)
MEMORY = ":memory:"
BEYOND = 2**40  # first row number in memory while rows on disk are unknown
CHECK_S = 1.0
REPLACED = "another program has deleted, replaced or truncated it"
Change = Callable[[Outbox], object]


class Store:
    """The outbox and its fallback in memory, used by one thread."""

    def __init__(self, path: Path, limits: Limits, *, clock_synced: bool, retry_s: float = 10.0) -> None:
        """The first change must be `end_open`."""
        self.error: str | None = None  # reason why events are in memory only
        self._path, self._limits = path, limits
        self._clock_synced = clock_synced
        self._retry_s = retry_s
        self._check_at = 0.0
        self._absorb_after: Change | None = None  # if rows on disk are not in memory: this precedes the rows in memory
        self._files = OpenFiles()
        try:
            self.outbox = self._open()
        except (sqlite3.Error, OSError) as error:
            self._absorb_after = self.end_open
            self.outbox = Outbox(MEMORY, limits, first_row=BEYOND)
            self._log_error(error)
            self._check_at = time.monotonic() + retry_s

    def end_open(self, outbox: Outbox) -> None:
        """End the anomalies that an earlier run left open."""
        outbox.end_open(datetime.now(timezone.utc), clock_synced=self._clock_synced)

    def change(self, changes: Sequence[Change]) -> None:
        """Apply all changes in one transaction, on disk if possible."""
        try:
            with self.outbox.transaction():
                for change in changes:
                    change(self.outbox)
        except sqlite3.Error as error:
            if self.error is not None:
                raise
            self._fall_back(error)
            self.change(changes)

    def after(self, row: int, limit: int) -> list[OutboxRow]:
        """The next rows to send; none if they cannot be read at the moment."""
        try:
            return self.outbox.after(row, limit)
        except sqlite3.Error as error:
            self._fall_back(error)
            return []

    def check_disk(self) -> None:
        """Detect what other programs do to the file, or return to the disk once it works again. Cheap to call often."""
        if time.monotonic() < self._check_at:
            return
        self._check_at = time.monotonic() + (CHECK_S if self.error is None else self._retry_s)
        try:
            if self.error is None and self._files.are_replaced():
                self._fall_back(sqlite3.DatabaseError(REPLACED))
                self._set_aside(REPLACED)
            if self.error is not None:
                self._return_to_disk(self._open())
        except (sqlite3.Error, OSError) as error:
            self._log_error(error)

    def _open_files(self) -> OpenFiles:
        return OpenFiles(self._path, _beside(self._path, "-wal"))

    def _return_to_disk(self, disk: Outbox) -> None:
        try:
            if self._absorb_after is None:
                self.outbox.copy_to(disk)
            else:
                with disk.transaction():
                    self._absorb_after(disk)
                    disk.absorb(self.outbox)
        except sqlite3.Error:
            disk.close()
            raise
        self.outbox.close()
        self.outbox, self.error, self._absorb_after, self._files = disk, None, None, self._open_files()
        log.info("outbox: events are on disk again, in %s", self._path)

    def _fall_back(self, error: sqlite3.Error) -> None:
        memory = Outbox(MEMORY, self._limits, first_row=BEYOND)
        try:
            self.outbox.copy_to(memory)
        except sqlite3.Error as second:
            n_lost = self.outbox.totals.n
            if isinstance(second, sqlite3.OperationalError) and str(error) != REPLACED:  # perhaps it can be read later
                self._absorb_after, n_lost = _nothing, 0
            else:
                self._set_aside(f"it cannot be read: {second}")
            memory.totals = replace(memory.totals, n_dropped=self.outbox.totals.n_dropped + n_lost)
        self.outbox.close()
        self.outbox = memory
        self._check_at = time.monotonic() + self._retry_s
        self._log_error(error)

    def _open(self) -> Outbox:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(self._path.stat().st_mode):
                self._set_aside("it is not a file")
        try:
            outbox = Outbox(self._path, self._limits)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._set_aside(f"it cannot be read: {error}")
            outbox = Outbox(self._path, self._limits)
        self._files = self._open_files()
        return outbox

    def _set_aside(self, reason: str) -> None:
        """Move the file or folder out of the way, and delete what belonged to it."""
        aside = self._path.with_suffix(".folder" if self._path.is_dir() else ".corrupt")
        with suppress(FileNotFoundError):
            self._path.replace(aside)
            log.error("outbox: moved %s to %s and created a new one: %s", self._path, aside.name, reason, extra=of_kind("moved"))
        for suffix in ("-wal", "-shm"):
            with suppress(OSError):
                _beside(self._path, suffix).unlink()

    def _log_error(self, error: Exception) -> None:
        text = "another program has locked it" if str(error) == "database is locked" else str(error)
        if self.error is None:
            log.error("outbox: cannot write %s, events are in memory only: %s", self._path, text, extra=of_kind("error"))
        self.error = text


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _nothing(_: Outbox) -> None:
    """Rows on disk are from this run, so nothing precedes those in memory."""
