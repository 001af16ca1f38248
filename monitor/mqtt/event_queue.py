"""Events between the decision and the broker's acknowledgement: in memory until they are committed, then in the outbox."""

import logging
import time
from collections import deque
from functools import partial
from pathlib import Path

from monitor.events.event import Event
from monitor.mqtt.outbox import WINDOW, Limits, Outbox, OutboxRow, Totals
from monitor.mqtt.store import Change, Store

log = logging.getLogger(__name__)
MAX_UNCOMMITTED = 1_000  # events in memory while the disk stalls
DELETE_AFTER_S = 2.0  # acknowledged rows are deleted together with the next event, or after this time


class EventQueue:
    """A queue used by the sink's worker.

    Exceptions: `accept` is called by one other thread, and all threads may read the figures.
    """

    def __init__(self, path: Path | None, limits: Limits, *, clock_synced: bool) -> None:
        """Without a path there is no outbox, and no events may be queued."""
        self.n_delivered = 0
        self.commit_ms_p99: float | None = None  # from the decision to the commit, over the last 1,000 events
        self.uncommitted: list[tuple[float | None, Change]] = []  # events come with the time of their decision
        self._path, self._limits, self._clock_synced = path, limits, clock_synced
        self._store: Store | None = None
        self._outbox: Outbox | None = None  # the outbox to which `_cursor` refers
        self._cursor = 0  # the last row read
        self._rows: deque[OutboxRow] = deque()
        self._acknowledged: list[int] = []  # rows to delete
        self._delete_at = float("inf")
        self._commit_ms: deque[float] = deque(maxlen=1_000)
        self._n_accepted = self._n_committed = self._n_lost = 0
        self._lost: set[str] = set()  # anomalies whose start did not fit into memory

    def accept(self, event: Event) -> bool:
        """Whether there is room in memory for an event.

        When memory is full, only the `end` of an anomaly whose start was accepted is still accepted.
        """
        full = self.n_uncommitted >= MAX_UNCOMMITTED and event.event_type != "end"
        if full or event.id in self._lost:
            self._n_lost += 1
            if event.event_type == "start":
                self._lost.add(event.id)
            elif event.event_type == "end":
                self._lost.discard(event.id)
            return False
        self._n_accepted += 1
        return True

    @property
    def is_open(self) -> bool:
        """Whether the content of the outbox is known. On a slow disk, this takes a while."""
        return self._path is None or self._store is not None

    @property
    def n_uncommitted(self) -> int:
        """The number of events that are only in memory because they have not been written to disk yet."""
        return self._n_accepted - self._n_committed

    @property
    def n_queued(self) -> int:
        """The number of events that the broker has not acknowledged."""
        return max(0, self._totals.n + self.n_uncommitted - len(self._acknowledged))

    @property
    def n_parked(self) -> int:
        """The number of events that the broker rejected."""
        return len(self._totals.parked)

    @property
    def n_dropped(self) -> int:
        """The number of events lost for lack of room, in memory or in the outbox, or because they could not be stored or read."""
        return self._n_lost + self._totals.n_dropped

    @property
    def error(self) -> str | None:
        """The reason why events are in memory only, or None."""
        return self._store.error if self._store is not None else None

    @property
    def _totals(self) -> Totals:
        return self._store.outbox.totals if self._store is not None else Totals()

    def advance(self) -> None:
        """Open the outbox, commit what is due, and return to the disk if possible."""
        if self._path is None:
            return
        if self._store is None:
            self._store = Store(self._path, self._limits, clock_synced=self._clock_synced)
            self.uncommitted.insert(0, (None, self._store.end_open))
        self._store.check_disk()
        if self.uncommitted or time.monotonic() >= self._delete_at or len(self._acknowledged) >= WINDOW:
            self._commit(self._store)

    def next(self, in_flight: set[int]) -> OutboxRow | None:
        """The next row to send. It remains the next one until `pop`."""
        store = self._store
        if store is None:
            return None
        if store.outbox is not self._outbox:
            self._outbox, self._cursor = store.outbox, 0
            self._rows.clear()
        if not self._rows and (found := store.after(self._cursor, WINDOW)):
            skip = in_flight | store.outbox.totals.parked | set(self._acknowledged)
            self._cursor = found[-1].row
            self._rows.extend(row for row in found if row.row not in skip)
        return self._rows[0] if self._rows else None

    def pop(self) -> None:
        """Remove the next row from the queue, because it has been sent."""
        self._rows.popleft()

    def restart(self) -> None:
        """After a reconnect, queue everything that is not acknowledged again, except parked rows."""
        self._outbox = None

    def unpark(self) -> None:
        """Queue parked rows again, too."""
        self.restart()
        if self._store is not None:
            self._store.outbox.unpark()

    def acknowledged(self, row: int) -> None:
        """Mark a row as acknowledged by the broker."""
        self.n_delivered += 1
        self._acknowledged.append(row)
        self._delete_at = min(self._delete_at, time.monotonic() + DELETE_AFTER_S)

    def park(self, row: int) -> None:
        """Park a row that the broker rejected."""
        if self._store is not None:
            self._store.outbox.park(row)

    def close(self) -> None:
        """Commit the rest and close the file."""
        if self._store is not None:
            self._commit(self._store)
            self._store.outbox.close()

    def _commit(self, store: Store) -> None:
        requests, self.uncommitted = self.uncommitted, []
        rows, self._acknowledged = self._acknowledged, []
        self._delete_at = float("inf")
        delete = partial(Outbox.delete, rows=rows)
        try:
            store.change([delete, *(change for _, change in requests)])
        except Exception:
            self._commit_one_by_one(store, [(None, delete), *requests])
            raise
        self._count(requests)

    def _commit_one_by_one(self, store: Store, requests: list[tuple[float | None, Change]]) -> None:
        """Commit changes separately, so that one that cannot be applied does not affect the others."""
        for since, change in requests:
            try:
                store.change([change])
            except Exception:  # noqa: PERF203
                log.exception("outbox: dropped a change that could not be applied")
                self._n_lost += since is not None
        self._count(requests)

    def _count(self, requests: list[tuple[float | None, Change]]) -> None:
        now = time.monotonic()
        waits_ms = [1_000 * (now - since) for since, _ in requests if since is not None]
        self._n_committed += len(waits_ms)
        self._commit_ms.extend(waits_ms)
        if waits_ms:
            self.commit_ms_p99 = sorted(self._commit_ms)[int(0.99 * (len(self._commit_ms) - 1))]
