"""The outbox: events on disk, in order, until the broker has acknowledged them. It is limited in count and bytes.

When it is full, the oldest `update` events are dropped first, and then whole anomalies that no subscriber has received
yet, oldest first. The `end` of an anomaly whose `start` may have been received is stored even beyond the limits (at most
one per machine).
"""

import json
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from monitor.events.event import Event, from_rfc3339, rfc3339
from monitor.json_lines import to_json
from monitor.log_limit import of_kind

log = logging.getLogger(__name__)
SCHEMA = 1
WINDOW = 16  # rows in flight at a time
LOCKED_S = 0.2  # how long SQLite waits for another process when it opens the file
TIMES = "ts onset_ts"
TABLES = """
CREATE TABLE message (row INTEGER PRIMARY KEY, id TEXT NOT NULL, kind TEXT NOT NULL, machine TEXT NOT NULL,
                      payload TEXT NOT NULL, unsure TEXT NOT NULL);
CREATE TABLE open (id TEXT PRIMARY KEY, payload TEXT NOT NULL) WITHOUT ROWID;
"""
OLDEST = """
SELECT row, id FROM message WHERE kind = ? AND (row > ? OR row IN (SELECT value FROM json_each(?))) ORDER BY row LIMIT 1
"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of the outbox. Bytes are those of the events; the file is slightly larger."""

    messages: int
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class OutboxRow:
    """A stored event. `row` increases in the order of the events."""

    row: int
    machine: str
    payload: str


@dataclass(frozen=True)
class Totals:
    """The content of the outbox, and its losses since it was opened."""

    n: int = 0
    n_bytes: int = 0
    n_dropped: int = 0
    parked: frozenset[int] = frozenset()  # rows that the broker does not accept
    evicted: frozenset[str] = frozenset()  # anomalies that were dropped before their end


class Outbox:
    """A SQLite file, or `:memory:`, used by one thread. Make every change within `with outbox.transaction()`."""

    def __init__(self, path: Path | str, limits: Limits, *, first_row: int = 1) -> None:
        """Open or create the file; sqlite3.Error if that is impossible."""
        self._limits = limits
        self._last = first_row - 1
        self._handed_out = 0  # subscribers may have received the rows up to this one
        self.totals = Totals()
        self._db = sqlite3.connect(path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False)
        self._db.text_factory = lambda data: data.decode("utf-8", "replace")  # no damaged text may stop the others
        try:
            self._prepare()
        except sqlite3.Error:
            self._db.close()
            raise

    def _prepare(self) -> None:
        # While it is open, no other program can lock it. Nor is there a -shm file, which would be mapped: if it was truncated, a
        # signal would end the process.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
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
        """Commit all changes to disk, or none of them."""
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

    def end_open(self, now: datetime, *, clock_synced: bool) -> None:
        """Drop rows that cannot be read, and end the anomalies that an earlier run left open, as they were last known.

        Uncertain times of an earlier run stay uncertain, because the error of its clock is no longer known.
        """
        self._drop_malformed()
        self._db.execute("UPDATE message SET unsure = '' WHERE unsure != ''")
        self.after(0, 2 * WINDOW)  # rows that were in flight, or acknowledged and not deleted yet
        found = self._db.execute("SELECT payload, id FROM open").fetchall()
        open_ = [json.loads(payload) for payload, key in found if _is_event(payload, key)]
        for last in sorted(open_, key=lambda message: str(message["onset_ts"])):
            end = {**last, "event_type": "end", "seq": last["seq"] + 1, "ts": rfc3339(now), "end_reason": "restarted"}
            end["clock_synced"] = clock_synced and last["clock_synced"]
            self._append(end, unsure="ts" if last["clock_synced"] and not clock_synced else "")

    def _drop_malformed(self) -> None:
        for table, key, columns in (("message", "row", "id, machine"), ("open", "id", "id")):
            key_bytes = f"CAST({key} AS BLOB)"  # finds ids that are not valid UTF-8, too
            rows = self._db.execute(f"SELECT {key_bytes}, payload, {columns} FROM {table}").fetchall()
            for value, *_ in (row for row in rows if not _is_event(*row[1:])):
                name = value.decode("utf-8", "replace")
                log.error("outbox: dropped %s %s = %s, which cannot be read", table, key, name, extra=of_kind("dropped"))
                self._db.execute(f"DELETE FROM {table} WHERE {key_bytes} = ?", (value,))
                self.totals = replace(self.totals, n_dropped=self.totals.n_dropped + 1)
        self._count()

    def correct(self, offset_s: float, *, synced: bool = True) -> None:
        """Shift the times that were recorded before the clock was set, except those that may have been received already.

        They remain uncertain unless the clock is reliable now (`synced`).
        """
        query = "SELECT row, id, payload, unsure FROM message WHERE unsure != '' AND row > ?"
        for row, key, payload, unsure in self._db.execute(query, (self._handed_out,)).fetchall():
            message = json.loads(payload)
            for name in unsure.split():
                message[name] = rfc3339(from_rfc3339(message[name]) + timedelta(seconds=offset_s))
            corrected = to_json({**message, "clock_synced": synced})
            self._db.execute(
                "UPDATE message SET payload = ?, unsure = ? WHERE row = ?", (corrected, "" if synced else unsure, row)
            )
            self._db.execute("UPDATE open SET payload = ? WHERE id = ? AND payload = ?", (corrected, key, payload))
        self._count()

    def after(self, row: int, limit: int) -> list[OutboxRow]:
        """The next rows to send. From now on, they count as possibly received."""
        found = self._db.execute("SELECT row, machine, payload FROM message WHERE row > ? ORDER BY row LIMIT ?", (row, limit))
        rows = [OutboxRow(row=row, machine=machine, payload=payload) for row, machine, payload in found.fetchall()]
        self._handed_out = max([self._handed_out, *(row.row for row in rows)])
        return rows

    def delete(self, rows: list[int]) -> None:
        """Delete acknowledged rows.

        Parked rows of the same anomaly before them have been overtaken. When room is needed, they are dropped like updates.
        """
        for row in rows:
            if any(parked < row for parked in self.totals.parked):
                query = "UPDATE message SET kind = 'update' WHERE row < ? AND id = (SELECT id FROM message WHERE row = ?)"
                self._db.execute(query, (row, row))
            self._remove("row = ?", row)

    def park(self, row: int) -> None:
        """Skip a row that the broker does not accept, until `unpark`. It is the first to be dropped when room is needed.

        This changes nothing on disk.
        """
        self.totals = replace(self.totals, parked=self.totals.parked | {row})

    def unpark(self) -> None:
        """Retry all parked rows."""
        self.totals = replace(self.totals, parked=frozenset())

    def copy_to(self, other: "Outbox") -> None:
        """Copy everything to the other outbox; sqlite3.Error if this one cannot be read or the other one not be written."""
        self._db.backup(other._db)
        other.totals, other._handed_out, other._last = self.totals, self._handed_out, self._last

    def absorb(self, other: "Outbox") -> None:
        """Append the content of the other outbox, whose row numbers must be larger than all of these."""
        rows = other._db.execute("SELECT * FROM message").fetchall()
        self._db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", rows)
        self._db.execute("DELETE FROM open WHERE id IN (SELECT id FROM message WHERE kind = 'end')")
        self._db.executemany("INSERT OR REPLACE INTO open VALUES (?, ?)", other._db.execute("SELECT * FROM open").fetchall())
        self._handed_out, self._last = max(self._handed_out, other._handed_out), max(self._last, other._last)
        n_dropped = self.totals.n_dropped + other.totals.n_dropped
        self.totals = replace(other.totals, n_dropped=n_dropped)
        self._count()

    def close(self) -> None:
        """Close the file, upon which SQLite merges its write-ahead log into it."""
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
        """Drop the oldest update, or else the oldest anomaly. Returns False if nothing may be dropped."""
        if (update := self._oldest("update")) is not None:
            self._drop("row = ?", update[0])
        elif (start := self._oldest("start")) is not None:
            self._drop_anomaly(start[1])
        else:
            return False
        return True

    def _oldest(self, kind: str) -> tuple[int, str] | None:
        """Row and id of the oldest event of this kind that no subscriber has received."""
        found: tuple[int, str] | None = self._db.execute(OLDEST, (kind, self._handed_out, self._parked())).fetchone()
        return found

    def _parked(self) -> str:
        return json.dumps(sorted(self.totals.parked))

    def _drop_anomaly(self, key: str) -> None:
        """Drop an anomaly completely, including its later events."""
        self._drop("id = ?", key)
        if self._db.execute("DELETE FROM open WHERE id = ?", (key,)).rowcount:
            self.totals = replace(self.totals, evicted=self.totals.evicted | {key})

    def _drop(self, condition: str, value: int | str) -> None:
        n_dropped = self._remove(condition, value)
        self.totals = replace(self.totals, n_dropped=self.totals.n_dropped + n_dropped)

    def _remove(self, condition: str, value: int | str) -> int:
        query = f"SELECT row, length(CAST(payload AS BLOB)) FROM message WHERE {condition}"
        rows = dict(self._db.execute(query, (value,)).fetchall())
        self._db.execute(f"DELETE FROM message WHERE {condition}", (value,))
        self.totals = replace(
            self.totals,
            n=self.totals.n - len(rows),
            n_bytes=self.totals.n_bytes - sum(rows.values()),
            parked=self.totals.parked - rows.keys(),
        )
        return len(rows)


def _is_event(payload: object, *columns: object) -> bool:
    """Whether a stored payload contains the keys that this file and the topic need, and matches its id and machine."""
    try:
        message = json.loads(payload) if isinstance(payload, str) else None
        if not isinstance(message, dict) or not re.fullmatch("[a-z0-9_-]{1,64}", message["machine"]):
            return False
        from_rfc3339(message["ts"]), from_rfc3339(message["onset_ts"])
        kinds = {"id": str, "seq": int, "event_type": str, "clock_synced": bool}
        matches = columns == (message["id"], message["machine"])[: len(columns)]
        return matches and all(isinstance(message[name], kind) for name, kind in kinds.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
