"""The history on disk and, while the disk cannot be written, in memory. Used by one thread."""

import logging
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from monitor.events.event import rfc3339
from monitor.history.database import Database, Limits, Message, shifted
from monitor.history.points import HOUR_S, points, width
from monitor.history.recorder import Block, ScoreRecorder
from monitor.history.steps import Steps
from monitor.json_lines import to_json

log = logging.getLogger(__name__)
MAX_EVENTS = 1_000  # in memory
MAX_BLOCKS = 1_000
MAX_WRITTEN = 100
RETRY_S = 60.0
T = TypeVar("T")


class HistoryStore:
    """Events and blocks of scores. A failure of the disk is logged once and never raised."""

    def __init__(self, path: Path | None, limits: Limits, recorder: ScoreRecorder, *, clock_synced: bool) -> None:
        """Without a path, everything stays in memory. `recorder` has the scores that are not in a block yet."""
        self.error: str | None = None  # why the history is in memory only
        self.n_lost = 0  # events and blocks for which there was no room in memory
        self._path, self._limits, self._recorder = path, limits, recorder
        self._clock_synced = clock_synced
        self._events: dict[str, Message] = {}  # not on disk yet
        self._blocks: list[Block] = []  # not on disk yet
        self._database: Database | None = None
        self._has_ended_open = False
        self._retry_at = 0.0
        self._n_damaged = 0
        self._written: dict[str, Message] = {}  # the last events of this run that are on disk

    def open(self) -> None:
        """Open the file and end the events that an earlier run left open."""
        self._try(lambda _: None, None)
        self.flush()

    def add_event(self, message: Message) -> None:
        """Add the next message of an event."""
        to_json(message)  # raises ValueError here, and not when it is written with others
        before = self.event(message["id"]) or {"started_at": message["ts"], "acknowledged_at": None}
        self._events[message["id"]] = {**message, **{key: before[key] for key in ("started_at", "acknowledged_at")}}
        self.flush()

    def acknowledge(self, event_id: str, at: str) -> None:
        """Record that a person has acknowledged an event."""
        event = self.event(event_id)
        if event is not None and event["acknowledged_at"] is None:
            self._events[event_id] = {**event, "acknowledged_at": at}
            self.flush()

    def add_blocks(self) -> None:
        """Move the scores so far from the recorder into blocks, and write them."""
        self._blocks += self._recorder.take()
        self.flush()

    def correct(self, offset_s: float, *, synced: bool) -> None:
        """The clock was `offset_s` behind: shift what this run recorded before it was set. It is reliable now if `synced`."""
        self._recorder.shift(offset_s, now=time.time())
        self._clock_synced = synced
        unsure = {key: event for key, event in self._events.items() if not event["clock_synced"]}
        self._events |= {key: shifted(event, offset_s, synced=synced) for key, event in unsure.items()}
        for block in self._blocks:
            for rows in (block.steps, block.total):
                rows["t"] += round(offset_s)
        self._try(lambda database: database.correct(offset_s, synced=synced), None)

    def flush(self) -> None:
        """Write what is not on disk yet, or try again after a while."""
        if (self._events or self._blocks) and time.monotonic() >= self._retry_at:
            for _ in range(2):  # a damaged file is replaced
                if self._try(self._write, False):
                    break
        n_before = len(self._events) + len(self._blocks)
        self._events = dict([*self._events.items()][-MAX_EVENTS:])
        self._blocks = self._blocks[-MAX_BLOCKS:]
        if self._path is not None:
            self.n_lost += n_before - len(self._events) - len(self._blocks)

    def close(self) -> None:
        """Write the rest and close the file."""
        self._retry_at = 0.0
        self.add_blocks()
        if self._database is not None:
            self._database.close()
            self._database = None

    def event(self, event_id: str) -> Message | None:
        """An event, as its last message."""
        return self._events.get(event_id) or self._try(lambda database: database.event(event_id), None)

    def events(self, machine: str | None, before: str | None, limit: int, *, after_id: str | None = None) -> list[Message]:
        """As in `Database.events`."""
        nothing: list[Message] = []
        on_disk = self._try(lambda database: database.events(machine, before, limit, after_id=after_id), nothing)

        def is_wanted(event: Message) -> bool:
            started_at, is_next = event["started_at"], after_id is not None and event["id"] > after_id
            return machine in (None, event["machine"]) and (
                before is None or started_at < before or (started_at == before and is_next)
            )

        found = {event["id"]: event for event in on_disk}
        found |= {key: event for key, event in self._events.items() if is_wanted(event)}
        by_id = sorted(found.values(), key=lambda event: str(event["id"]))
        return sorted(by_id, key=lambda event: str(event["started_at"]), reverse=True)[:limit]

    def points(self, machine: str, begin: int, end: int, wanted_s: float) -> tuple[int, list[dict[str, Any]]]:
        """The width of the points in s, and the points."""
        width_s = width(begin, end, wanted_s)
        in_memory = [block for block in [*self._blocks, *self._recorder.snapshot(machine)] if block.machine == machine]
        nothing: list[Steps] = []
        on_disk = self._try(lambda database: database.rows(machine, begin, end, width_s), nothing)
        latest = [block.total if width_s >= HOUR_S else block.steps for block in in_memory]
        return width_s, points([*on_disk, *latest], begin, end, width_s)

    def _write(self, database: Database) -> bool:
        database.write([*self._events.values()], self._blocks, unsure=not self._clock_synced)
        self._written = dict([*(self._written | self._events).items()][-MAX_WRITTEN:])
        self._events, self._blocks = {}, []
        if self.error is not None:
            log.info("history: written to %s again", self._path)
            self.error = None
        return True

    def _try(self, action: Callable[[Database], T], otherwise: T) -> T:
        """Do something with the file; if that fails, log it once and return `otherwise`."""
        try:
            database = self._opened()
            if database is None:
                return otherwise
            result = action(database)
            self._report_damage(database)
        except (sqlite3.Error, OSError, UnicodeError) as error:  # a damaged name in a message of SQLite is not Unicode
            self._fail(error)
            return otherwise
        return result

    def _opened(self) -> Database | None:
        """The file, opened if necessary; None while that is not tried."""
        if self._database is not None and not self._database.is_current:
            log.error("history: %s was deleted or replaced by another program; creating a new one", self._path)
            self._database.close()
            self._database = None
        if self._path is None or (self._database is None and time.monotonic() < self._retry_at):
            return None
        if self._database is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(self._path.lstat().st_mode):
                    self._set_aside("it is not a file")
            self._database = Database(self._path, self._limits)
            self._end_open(self._database)
        return self._database

    def _end_open(self, database: Database) -> None:
        """End the events that an earlier run left open."""
        if self._has_ended_open:
            return
        self._has_ended_open = True
        now = rfc3339(datetime.now(timezone.utc))
        for event in database.open_events():
            end = {"event_type": "end", "seq": event["seq"] + 1, "ts": now, "end_reason": "restarted"}
            synced = self._clock_synced and event["clock_synced"]
            self._events.setdefault(event["id"], {**event, **end, "clock_synced": synced})

    def _fail(self, error: Exception) -> None:
        """Log an error, unless it persists. A damaged file is replaced at once; otherwise the file is tried again later."""
        if isinstance(error, sqlite3.InterfaceError | sqlite3.ProgrammingError):
            raise error  # a bug
        is_damaged = not isinstance(error, sqlite3.OperationalError | OSError)
        text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        if self._database is not None and (is_damaged or "full" not in text):  # a full disk can still be read
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        if is_damaged:
            self._set_aside(text)
            self._events = self._written | self._events  # damage may be found only after something was written to it
            return
        self._retry_at = time.monotonic() + RETRY_S
        if self.error is None:
            log.error("history: cannot write %s, continuing in memory: %s", self._path, text)
        self.error = text

    def _set_aside(self, reason: str) -> None:
        """Move a file that cannot be used out of the way."""
        assert self._path is not None
        aside = self._path.with_suffix(".corrupt")
        try:
            self._path.replace(aside)
            log.error("history: moved %s to %s and created a new one: %s", self._path, aside.name, reason)
            for suffix in ("-wal", "-shm", "-journal"):
                self._path.with_name(f"{self._path.name}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            self._retry_at = time.monotonic() + RETRY_S
            if self.error is None:
                log.error("history: %s cannot be used (%s) nor moved: %s", self._path, reason, error.strerror)
            self.error = reason

    def _report_damage(self, database: Database) -> None:
        if database.n_damaged and not self._n_damaged:
            log.error("history: %s has damaged rows, which are left out", self._path)
        self._n_damaged = database.n_damaged
