"""The SQLite file of the history: events with their last message, and blocks of scores. Its size is limited."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from monitor.events.event import from_rfc3339, rfc3339
from monitor.history.points import HOUR_S
from monitor.history.recorder import Block
from monitor.history.steps import DTYPE, LEVELS, RATIOS, STATES, DamagedSteps, Steps, decode, encode
from monitor.json_lines import to_json

SCHEMA = 1
LOCKED_S = 0.2  # how long SQLite waits for another process
HOURS_AT_ONCE = 24  # deleted together when room is needed
EVENTS_AT_ONCE = 20
ROW_BYTES = 300  # of a block, besides its steps
MAX_BLOCK_S = 2 * 3_600  # a block that begins earlier than this before a time does not contain it
TOTALS = ("n", *RATIOS, *LEVELS, *STATES)
TABLES = f"""
CREATE TABLE event (id TEXT PRIMARY KEY, machine TEXT NOT NULL, started_at TEXT NOT NULL, is_open INTEGER NOT NULL,
                    unsure INTEGER NOT NULL, message TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX event_time ON event (started_at);
CREATE TABLE block (row INTEGER PRIMARY KEY, machine TEXT NOT NULL, begins INTEGER NOT NULL, unsure INTEGER NOT NULL,
                    {", ".join(f"{name} REAL" for name in TOTALS)});
CREATE INDEX block_time ON block (machine, begins);
CREATE TABLE steps (row INTEGER PRIMARY KEY, data BLOB NOT NULL);
"""
Message = dict[str, Any]


def _new_schema() -> list[tuple[str]]:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(TABLES)
        return database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()


_SCHEMA = _new_schema()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of the file. When it is full, the oldest blocks are deleted, and then the oldest events."""

    events: int
    n_bytes: int


class Database:
    """The open file. Every method may raise sqlite3.Error. Damaged rows are skipped and counted."""

    def __init__(self, path: Path, limits: Limits, *, is_read_only: bool = False) -> None:
        """Open or create the file."""
        self.n_damaged = 0
        self._path, self._limits = path, limits
        self._db = sqlite3.connect(path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False)
        self._db.text_factory = lambda data: data.decode("utf-8", "replace")  # no damaged text may stop the others
        try:
            self._prepare(is_read_only)
            self._file = _identity(path)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, is_read_only: bool) -> None:
        # Exclusive, so that no other program can lock it, and that there is no -shm file, which would be mapped into memory.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA cache_size = -512")  # kB; by default 2 MB stay in memory after every hour
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, SCHEMA):
            raise sqlite3.DatabaseError(f"schema must be {SCHEMA}, got {found}")
        if found == 0:
            self._db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT")
        if self._schema() != _SCHEMA:
            raise sqlite3.DatabaseError("its tables are damaged")
        if not is_read_only:
            self._db.execute("UPDATE event SET unsure = 0 WHERE unsure")  # the error of an earlier run's clock is not known
            self._db.execute("UPDATE block SET unsure = 0 WHERE unsure")

    def _schema(self) -> list[tuple[str]]:
        return self._db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one that was opened."""
        try:
            return _identity(self._path) == self._file
        except OSError:
            return False

    def close(self) -> None:
        """Close the file, upon which SQLite merges its write-ahead log into it."""
        self._db.close()

    def write(self, events: Sequence[Message], blocks: Sequence[Block], *, unsure: bool) -> None:
        """Write all of them in one transaction. `unsure`: the clock was not set when the blocks were recorded."""
        data = [encode(block.steps) for block in blocks]
        texts = [to_json(event) for event in events]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._make_room(sum(map(len, [*data, *texts])) + ROW_BYTES * len(blocks))
            for event, text in zip(events, texts, strict=True):
                row = event["id"], event["machine"], event["started_at"], event["event_type"] != "end"
                self._db.execute(
                    "INSERT OR REPLACE INTO event VALUES (?, ?, ?, ?, ?, ?)", (*row, not event["clock_synced"], text)
                )
            for block, steps in zip(blocks, data, strict=True):
                self._add(block, steps, unsure)
            self._delete_events(self._one("SELECT count(*) FROM event") - self._limits.events)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _add(self, block: Block, steps: bytes, unsure: bool) -> None:
        total = block.total[0]
        values = [None if np.isnan(value) else round(float(value), 5) for value in (total[name] for name in TOTALS[:9])]
        values += [round(float(share), 5) for share in total["states"]]
        places = ", ".join("?" * (4 + len(TOTALS)))
        row = self._db.execute(
            f"INSERT INTO block VALUES ({places})", (None, block.machine, int(total["t"]), unsure, *values)
        ).lastrowid
        self._db.execute("INSERT INTO steps VALUES (?, ?)", (row, steps))

    def _make_room(self, n_bytes: int) -> None:
        while self._used() + n_bytes > self._limits.n_bytes:
            rows = self._db.execute("SELECT row FROM block ORDER BY begins LIMIT ?", (HOURS_AT_ONCE,)).fetchall()
            self._db.executemany("DELETE FROM steps WHERE row = ?", rows)
            self._db.executemany("DELETE FROM block WHERE row = ?", rows)
            if not rows and not self._delete_events(EVENTS_AT_ONCE):
                return

    def _delete_events(self, n: int) -> int:
        query = "DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY is_open, started_at LIMIT ?)"
        return self._db.execute(query, (n,)).rowcount if n > 0 else 0

    def _used(self) -> int:
        pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        return pages * self._one("PRAGMA page_size")

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    def event(self, event_id: str) -> Message | None:
        """An event."""
        found = self._messages("SELECT id, message FROM event WHERE id = ?", (event_id,))
        return found[0] if found else None

    def open_events(self) -> list[Message]:
        """The events without an end."""
        return self._messages("SELECT id, message FROM event WHERE is_open ORDER BY started_at", ())

    def events(self, machine: str | None, before: str | None, limit: int, *, after_id: str | None = None) -> list[Message]:
        """Events that started before a time, or at that time with a greater id than `after_id`. The newest first, then by id."""
        query = (
            "SELECT id, message FROM event WHERE (?1 IS NULL OR machine = ?1) "
            "AND (?2 IS NULL OR started_at < ?2 OR (started_at = ?2 AND id > ?3)) ORDER BY started_at DESC, id LIMIT ?4"
        )
        return self._messages(query, (machine, before, after_id, limit))

    def _messages(self, query: str, values: Sequence[Any]) -> list[Message]:
        found = [_message(*row) for row in self._db.execute(query, values).fetchall()]
        self.n_damaged += found.count(None)
        return [message for message in found if message is not None]

    def rows(self, machine: str, begin: int, end: int, width_s: int) -> list[Steps]:
        """The rows for points of a width: steps, or one row for each block if they are wide enough."""
        begin -= begin % width_s
        return [self.totals(machine, begin, end)] if width_s >= HOUR_S else self.steps(machine, begin, end)

    def steps(self, machine: str, begin: int, end: int) -> list[Steps]:
        """The steps of a machine in blocks that may overlap a range of time, s since 1970."""
        query = (
            "SELECT begins, data FROM block JOIN steps USING (row) "
            "WHERE machine = ? AND begins >= ? AND begins < ? ORDER BY begins, row"
        )
        found = [_decoded(*row) for row in self._db.execute(query, (machine, begin - MAX_BLOCK_S, end)).fetchall()]
        self.n_damaged += sum(steps is None for steps in found)
        return [steps for steps in found if steps is not None]

    def totals(self, machine: str, begin: int, end: int) -> Steps:
        """One row for each block, as in `Block.total`."""
        columns = ", ".join(("begins", *TOTALS))
        query = f"SELECT {columns} FROM block WHERE machine = ? AND begins >= ? AND begins < ? ORDER BY begins, row"
        rows = self._db.execute(query, (machine, begin, end)).fetchall()
        table = np.array([[_number(value) for value in row] for row in rows], np.float64).reshape(len(rows), 1 + len(TOTALS))
        steps = np.zeros(len(rows), DTYPE)
        for column, name in enumerate(("t", "n", *RATIOS, *LEVELS)):
            steps[name] = table[:, column] if name not in ("t", "n") else np.nan_to_num(table[:, column])
        steps["states"] = np.nan_to_num(table[:, -len(STATES) :])
        return steps

    def machines(self) -> list[str]:
        """The machines with scores."""
        return [name for (name,) in self._db.execute("SELECT DISTINCT machine FROM block ORDER BY machine")]

    def correct(self, offset_s: float, *, synced: bool) -> None:
        """Shift the times that this run recorded before the clock was set; `synced`: they are reliable now."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            events = self._messages("SELECT id, message FROM event WHERE unsure", ())
            for event in (shifted(event, offset_s, synced=synced) for event in events):
                row = event["started_at"], not synced, to_json(event), event["id"]
                self._db.execute("UPDATE event SET started_at = ?, unsure = ?, message = ? WHERE id = ?", row)
            self._db.execute("UPDATE block SET begins = begins + ?, unsure = ? WHERE unsure", (round(offset_s), not synced))
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def shifted(event: Message, offset_s: float, *, synced: bool) -> Message:
    """The event, recorded by a clock that was `offset_s` behind. Of one that an earlier run left open, that clock set the end."""
    keys = ("ts",) if event.get("end_reason") == "restarted" else ("ts", "onset_ts", "started_at", "acknowledged_at")
    times = {key: _later(event[key], offset_s) for key in keys if event[key]}
    return {**event, **times, "clock_synced": synced}


def _later(text: str, offset_s: float) -> str:
    return rfc3339(from_rfc3339(text) + timedelta(seconds=offset_s))


def _message(key: object, text: object) -> Message | None:
    """A stored message; None if it is damaged."""
    try:
        message = json.loads(text) if isinstance(text, str) else None
        if not isinstance(message, dict) or message["id"] != key:
            return None
        kinds = {"machine": str, "event_type": str, "seq": int, "clock_synced": bool}
        if not all(isinstance(message[name], kind) for name, kind in kinds.items()):
            return None
        for name in ("ts", "onset_ts", "started_at"):
            _later(message[name], 0.0)
        return {"acknowledged_at": None, **message}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _decoded(begins: int, data: object) -> Steps | None:
    """Stored steps; None if they are damaged. A correction of the clock has changed only the time at which they begin."""
    try:
        steps = decode(data) if isinstance(data, bytes) else None
    except DamagedSteps:
        return None
    if steps is not None:
        steps["t"] += begins - steps["t"][0]
    return steps


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
