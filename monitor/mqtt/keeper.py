"""The outbox's thread: commits events, hands them over in order, forgets what the broker has acknowledged."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from monitor.events.event import Event
from monitor.mqtt.outbox import WINDOW, Limits, Outbox, Row
from monitor.mqtt.store import Change, Store

log = logging.getLogger(__name__)
MAX_WAITING = 1_000  # events in memory while the disk stalls
FORGET_AFTER_S = 2.0  # acknowledged rows are deleted with the next event, at the latest after this time without any
HandOver = Callable[[int, list[Row]], None]


class Keeper:
    """Owns the outbox. Whatever may be called from other threads returns at once."""

    def __init__(self, path: Path, limits: Limits, *, clock_synced: bool, hand_over: HandOver) -> None:
        self.n_delivered = self.n_refused = 0
        self.commit_ms_p99: float | None = None  # from `put` to the commit, of the last 1,000 events
        self._path, self._limits = path, limits
        self._clock_synced = clock_synced
        self._hand_over = hand_over
        self._store: Store | None = None
        self._inbox: queue.SimpleQueue[tuple[float | None, Change] | None] = queue.SimpleQueue()
        self._n_put = self._n_committed = 0  # each counted by one thread
        self._left_out: set[str] = set()  # anomalies whose start found no place in memory
        self._epoch = self._followed = 0  # of the connection; 0 without
        self._cursor = 0  # the last row handed over to it
        self._under_way: set[int] = set()
        self._outbox: Outbox | None = None
        self._acknowledged: deque[int] = deque()
        self._to_forget: list[int] = []
        self._waits_ms: deque[float] = deque(maxlen=1_000)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Open the outbox, on its own thread."""
        self._thread.start()

    def put(self, event: Event) -> None:
        """Keep an event; from one thread at a time. With the memory full, an `end` alone is taken: its start was."""
        full = self.n_waiting >= MAX_WAITING and event.event_type != "end"
        if full or event.id in self._left_out:
            self.n_refused += 1
            if event.event_type == "start":
                self._left_out.add(event.id)
            elif event.event_type == "end":
                self._left_out.discard(event.id)
            return
        self._n_put += 1
        self._inbox.put((time.monotonic(), partial(Outbox.add, event=event)))

    def correct(self, offset_s: float, *, synced: bool = True) -> None:
        """The clock has been set; it was `offset_s` behind."""
        self._inbox.put((None, partial(Outbox.correct, offset_s=offset_s, synced=synced)))

    def connected(self, epoch: int) -> None:
        """A new connection (0: none any more): what is not acknowledged is handed over, from the oldest on."""
        self._epoch = epoch
        self._inbox.put(None)

    def acknowledged(self, row: int) -> None:
        """The broker has this row."""
        self.n_delivered += 1
        self._acknowledged.append(row)
        self._inbox.put(None)

    def set_aside(self, row: int) -> None:
        """The broker cannot take this row: drop it, and count it."""
        self._inbox.put((None, partial(self._set_aside, row=row)))

    def stop(self, timeout_s: float) -> None:
        """Commit what waits and close the file, unless the disk stalls for longer."""
        self._stopping.set()
        self._inbox.put(None)
        self._thread.join(timeout_s)

    @property
    def n_waiting(self) -> int:
        """Events in memory that are not committed yet."""
        return self._n_put - self._n_committed

    @property
    def is_open(self) -> bool:
        """Whether it is known what the outbox holds; a slow disk takes its time."""
        return self._store is not None

    @property
    def n_queued(self) -> int:
        """Events that the broker has not acknowledged: in the outbox, or waiting for it."""
        stored = self._store.outbox.totals.n if self._store is not None else 0
        return max(0, stored + self.n_waiting - len(self._acknowledged) - len(self._to_forget))

    @property
    def n_dropped(self) -> int:
        """Events lost for lack of room, in memory or in the outbox."""
        return self.n_refused + (self._store.outbox.totals.n_dropped if self._store is not None else 0)

    @property
    def trouble(self) -> str | None:
        """Why events are in memory only."""
        return self._store.trouble if self._store is not None else None

    def _run(self) -> None:
        may_wait = lambda: not self._stopping.is_set()  # noqa: E731
        store = self._store = Store(self._path, self._limits, clock_synced=self._clock_synced, may_wait=may_wait)
        self._outbox = store.outbox
        while not (self._stopping.is_set() and self._inbox.empty()):
            changes, idle = self._take()
            try:
                self._step(store, changes, idle=idle)
            except Exception:
                log.exception("outbox: events are lost")
                n_events = sum(since is not None for since, _ in changes)
                self.n_refused += n_events
                self._n_committed += n_events
        self._commit(store, [], forget=True)
        store.outbox.close()

    def _step(self, store: Store, changes: list[tuple[float | None, Change]], *, idle: bool) -> None:
        while self._acknowledged:
            self._to_forget.append(self._acknowledged.popleft())
        self._under_way.difference_update(self._to_forget)
        epoch = self._epoch
        renewed = epoch != self._followed
        self._commit(store, changes, forget=idle or renewed or len(self._to_forget) >= WINDOW)
        store.retry_disk()
        if renewed:
            self._under_way.clear()
        if renewed or store.outbox is not self._outbox:
            self._cursor = 0
        self._followed, self._outbox = epoch, store.outbox
        if epoch and (found := store.after(self._cursor, WINDOW - len(self._under_way))):
            self._cursor = found[-1].row
            rows = [row for row in found if row.row not in self._under_way]
            self._under_way.update(row.row for row in rows)
            self._hand_over(epoch, rows)

    def _set_aside(self, outbox: Outbox, *, row: int) -> None:
        outbox.set_aside(row)
        self._under_way.discard(row)

    def _take(self) -> tuple[list[tuple[float | None, Change]], bool]:
        """Everything that waits, and whether it was quiet; sleeps until there is something to do."""
        patience_s = FORGET_AFTER_S if self._to_forget or self.trouble is not None else None
        try:
            found = [self._inbox.get(timeout=patience_s)]
        except queue.Empty:
            return [], True
        found += [self._inbox.get_nowait() for _ in range(self._inbox.qsize())]
        return [item for item in found if item is not None], False

    def _commit(self, store: Store, changes: list[tuple[float | None, Change]], *, forget: bool) -> None:
        if not changes and not (forget and self._to_forget):
            return
        if not store.change([partial(Outbox.done, rows=self._to_forget), *(change for _, change in changes)]):
            return
        self._to_forget = []
        waits = [time.monotonic() - since for since, _ in changes if since is not None]
        self._n_committed += len(waits)
        self._waits_ms.extend(1_000 * wait_s for wait_s in waits)
        if self._waits_ms:
            self.commit_ms_p99 = sorted(self._waits_ms)[int(0.99 * (len(self._waits_ms) - 1))]
