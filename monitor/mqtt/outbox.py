"""The outbox: events on disk, in order, until the broker has acknowledged them; bounded in count and bytes.

When it is full the oldest `update`s go first, then whole oldest anomalies that nobody has heard of yet. The `end` of an
anomaly whose `start` may have been heard is kept even beyond the bounds (there is one a machine at most).
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from monitor.events.event import Event, rfc3339
from monitor.json_lines import to_json

SCHEMA = 1
WINDOW = 16  # rows under way at once
LOCKED_S = 1.0  # how long SQLite itself waits for another process
TIMES = "ts onset_ts"
TABLES = """
CREATE TABLE message (row INTEGER PRIMARY KEY, id TEXT NOT NULL, kind TEXT NOT NULL, machine TEXT NOT NULL,
                      payload TEXT NOT NULL, unsure TEXT NOT NULL);
CREATE TABLE open (id TEXT PRIMARY KEY, payload TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much the outbox holds at most; bytes are those of the events, the file is a little larger."""

    messages: int
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One event on its way. `row` rises in the order of the events."""

    row: int
    machine: str
    payload: str


@dataclass(frozen=True)
class Totals:
    """What lies in the outbox, and what it has lost since it was opened."""

    n: int = 0
    n_bytes: int = 0
    n_dropped: int = 0
    evicted: frozenset[str] = frozenset()  # anomalies that go on, but were dropped


class Outbox:
    """A SQLite file, or `:memory:`, used by one thread. Every change belongs into a `with outbox.transaction()`."""

    def __init__(self, path: Path | str, limits: Limits, *, first_row: int = 1) -> None:
        """Open or create; sqlite3.Error when that is impossible."""
        self._limits = limits
        self._last = first_row - 1
        self._handed = 0  # rows up to this one may have been heard
        self.totals = Totals()
        self._db = sqlite3.connect(path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.Error:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, SCHEMA):
            raise sqlite3.DatabaseError(f"schema must be {SCHEMA}, got {found}")
        if found == 0:
            self._db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT")
        if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("file is malformed")
        self._last = max(self._last, self._db.execute("SELECT coalesce(max(row), 0) FROM message").fetchone()[0])
        self._count()

    def _count(self) -> None:
        n, n_bytes = self._db.execute("SELECT count(*), total(length(CAST(payload AS BLOB))) FROM message").fetchone()
        self.totals = replace(self.totals, n=n, n_bytes=int(n_bytes))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it is on disk afterwards, or nothing is."""
        before = self.totals
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self.totals = before
            raise

    def add(self, event: Event) -> None:
        """Append an event."""
        if event.id in self.totals.evicted:
            ended = {event.id} if event.event_type == "end" else set()
            self.totals = replace(self.totals, n_dropped=self.totals.n_dropped + 1, evicted=self.totals.evicted - ended)
            return
        self._append(event.to_dict(), unsure="" if event.clock_synced else TIMES)

    def end_open(self, now: datetime, *, clock_synced: bool) -> int:
        """End what an earlier run has left open, with what was known of it; returns how many.

        Times of an earlier run that were unsure stay so: nobody knows any more how wrong its clock was.
        """
        self._db.execute("UPDATE message SET unsure = '' WHERE unsure != ''")
        self.after(0, 2 * WINDOW)  # under way, or acknowledged and not yet deleted
        left = [json.loads(payload) for (payload,) in self._db.execute("SELECT payload FROM open").fetchall()]
        for last in sorted(left, key=lambda message: str(message["onset_ts"])):
            end = {**last, "event_type": "end", "seq": last["seq"] + 1, "ts": rfc3339(now), "end_reason": "restarted"}
            end["clock_synced"] = clock_synced and last["clock_synced"]
            self._append(end, unsure="ts" if last["clock_synced"] and not clock_synced else "")
        return len(left)

    def correct(self, offset_s: float, *, synced: bool = True) -> None:
        """Shift the times that were taken before the clock was set; what may have been heard stays as it is.

        `synced` says whether the clock can be believed now: until then they stay unsure.
        """
        rows = self._db.execute("SELECT row, id, payload, unsure FROM message WHERE unsure != '' AND row > ?", (self._handed,))
        for row, key, payload, unsure in rows.fetchall():
            message = json.loads(payload)
            for name in unsure.split():
                message[name] = rfc3339(_moment(message[name]) + timedelta(seconds=offset_s))
            corrected = to_json({**message, "clock_synced": synced})
            self._db.execute(
                "UPDATE message SET payload = ?, unsure = ? WHERE row = ?", (corrected, "" if synced else unsure, row)
            )
            self._db.execute("UPDATE open SET payload = ? WHERE id = ? AND payload = ?", (corrected, key, payload))
        self._count()

    def after(self, row: int, limit: int) -> list[Row]:
        """The next rows to send, which from now on count as possibly heard."""
        found = self._db.execute("SELECT row, machine, payload FROM message WHERE row > ? ORDER BY row LIMIT ?", (row, limit))
        rows = [Row(row=row, machine=machine, payload=payload) for row, machine, payload in found.fetchall()]
        self._handed = max([self._handed, *(row.row for row in rows)])
        return rows

    def done(self, rows: list[int]) -> None:
        """Forget what the broker has acknowledged."""
        for row in rows:
            self._remove("row = ?", row)

    def set_aside(self, row: int) -> None:
        """Drop a row that the broker cannot take; with a `start`, which nobody has heard, the whole anomaly."""
        found = self._db.execute("SELECT id, kind FROM message WHERE row = ?", (row,)).fetchone()
        if found is not None and found[1] == "start":
            self._drop_anomaly(found[0])
        elif found is not None:
            self._drop("row = ?", row)

    def copy_to(self, other: "Outbox") -> None:
        """Make the other one the same as this; sqlite3.Error when this cannot be read or the other not be written."""
        self._db.backup(other._db)
        other.totals, other._handed, other._last = self.totals, self._handed, self._last

    def absorb(self, other: "Outbox") -> None:
        """Append what the other one holds; its rows must be numbered beyond these."""
        self._db.executemany(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", other._db.execute("SELECT * FROM message").fetchall()
        )
        self._db.executemany("INSERT INTO open VALUES (?, ?)", other._db.execute("SELECT * FROM open").fetchall())
        self._handed, self._last = max(self._handed, other._handed), max(self._last, other._last)
        self.totals = other.totals
        self._count()

    def close(self) -> None:
        """Close the file; with nothing in it, its log is folded into it."""
        self._db.close()

    def _append(self, message: dict[str, Any], *, unsure: str) -> None:
        payload, kind, key = to_json(message), message["event_type"], message["id"]
        self._last += 1
        row = self._last, key, kind, message["machine"], payload, unsure
        self._db.execute("INSERT INTO message (row, id, kind, machine, payload, unsure) VALUES (?, ?, ?, ?, ?, ?)", row)
        if kind == "end":
            self._db.execute("DELETE FROM open WHERE id = ?", (key,))
        else:
            self._db.execute("INSERT OR REPLACE INTO open VALUES (?, ?)", (key, payload))
        self.totals = replace(self.totals, n=self.totals.n + 1, n_bytes=self.totals.n_bytes + len(payload.encode()))
        while self._is_over() and self._evict():
            pass

    def _is_over(self) -> bool:
        return self.totals.n > self._limits.messages or self.totals.n_bytes > self._limits.n_bytes

    def _evict(self) -> bool:
        """Drop the oldest update, else the oldest anomaly; False when nothing may go."""
        oldest = "SELECT row, id FROM message WHERE kind = ? AND row > ? ORDER BY row LIMIT 1"
        if (update := self._db.execute(oldest, ("update", self._handed)).fetchone()) is not None:
            self._drop("row = ?", update[0])
        elif (start := self._db.execute(oldest, ("start", self._handed)).fetchone()) is not None:
            self._drop_anomaly(start[1])
        else:
            return False
        return True

    def _drop_anomaly(self, key: str) -> None:
        """And what is still to come of it."""
        self._drop("id = ?", key)
        if self._db.execute("DELETE FROM open WHERE id = ?", (key,)).rowcount:
            self.totals = replace(self.totals, evicted=self.totals.evicted | {key})

    def _drop(self, which: str, value: int | str) -> None:
        n_dropped = self._remove(which, value)
        self.totals = replace(self.totals, n_dropped=self.totals.n_dropped + n_dropped)

    def _remove(self, which: str, value: int | str) -> int:
        size = f"SELECT count(*), total(length(CAST(payload AS BLOB))) FROM message WHERE {which}"
        n, n_bytes = self._db.execute(size, (value,)).fetchone()
        self._db.execute(f"DELETE FROM message WHERE {which}", (value,))
        self.totals = replace(self.totals, n=self.totals.n - n, n_bytes=self.totals.n_bytes - int(n_bytes))
        return int(n)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
