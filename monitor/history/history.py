"""The history of a node: takes events and scores from the listening loop, and answers questions, on a thread of its own."""

import logging
import queue
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from monitor.config import HistoryConfig
from monitor.events.event import Event
from monitor.history.database import Limits
from monitor.history.recorder import ScoreRecorder
from monitor.history.store import HistoryStore
from monitor.threads import Probe, WatchedThread

log = logging.getLogger(__name__)
FILE = "history.sqlite"  # in the state directory
MAX_WAITING = 1_000  # events and other changes, while the disk stalls
MAX_QUESTIONS = 16
TURN_S = 1.0
T = TypeVar("T")


class History:
    """No call waits for the disk. `push` and `poll` are called by the listening loop."""

    def __init__(self, state_dir: Path, config: HistoryConfig, *, clock_synced: bool) -> None:
        self.n_dropped = 0  # changes that found no room in the queue
        self._recorder = ScoreRecorder()
        limits = Limits(events=config.events, n_bytes=round(config.max_mb * 1e6))
        path = state_dir / FILE if config.enabled else None
        self._store = HistoryStore(path, limits, self._recorder, clock_synced=clock_synced)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._n_failed = 0
        self._hour: int | None = None
        self._thread = WatchedThread("history", self._run)

    def start(self) -> None:
        """Start the thread, which opens the file."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Write the scores so far and end, within `timeout_s`."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def probe(self, *, patience_s: float) -> Probe:
        """The watchdog's view of the thread. Failures of the disk are not unexpected errors."""
        probe = self._thread.probe(patience_s=patience_s)
        return Probe(
            name=probe.name,
            is_alive=probe.is_alive,
            advanced=probe.advanced,
            n_failures=lambda: self._n_failed + self._thread.n_failures,
            patience_s=patience_s,
        )

    @property
    def error(self) -> str | None:
        """Why the history is in memory only; None while it is on disk, or configured to be in memory."""
        return self._store.error

    @property
    def n_lost(self) -> int:
        """Events and blocks of scores that were lost, since the start."""
        return self.n_dropped + self._store.n_lost

    def record(self, event: Event) -> None:
        """Store one message of an event."""
        message = event.to_dict()
        self._put(lambda: self._store.add_event(message))

    def acknowledge(self, event_id: str, at: str) -> None:
        """Store when an event was acknowledged."""
        self._put(lambda: self._store.acknowledge(event_id, at))

    def push(self, machine: str, at: float, *, ratio: float | None, rms_dbfs: float | None, state: str) -> None:
        """Add a tick that ended at `at`, s since 1970."""
        self._recorder.push(machine, at, ratio=ratio, rms_dbfs=rms_dbfs, state=state)

    def poll(self, now: float) -> None:
        """Have the scores of the last hour written when an hour begins; `now` is the time in s since 1970."""
        hour = int(now // 3_600)
        if self._hour is not None and hour != self._hour:
            self._put(self._store.add_blocks)
        self._hour = hour

    def clock_corrected(self, offset_s: float, *, synced: bool = True) -> None:
        """The clock was `offset_s` behind: shift what was recorded before it was set."""
        self._put(lambda: self._store.correct(offset_s, synced=synced))

    def ask(self, question: Callable[[HistoryStore], T], answer: Callable[[T | Exception], None]) -> bool:
        """Call `answer` with what the question returns or raises, on the thread. False if too many questions wait."""
        if self._jobs.qsize() >= MAX_QUESTIONS:
            return False

        def job() -> None:
            try:
                result: T | Exception = question(self._store)
            except Exception as error:  # noqa: BLE001 (passed on)
                result = error
            answer(result)

        self._jobs.put(job)
        return True

    def _put(self, job: Callable[[], None]) -> None:
        if self._jobs.qsize() < MAX_WAITING:
            self._jobs.put(job)
            return
        if not self.n_dropped:
            log.error("history: the disk is too slow; dropping events and scores")
        self.n_dropped += 1

    def _run(self) -> None:
        self._attempt(self._store.open)
        while True:
            try:
                job = self._jobs.get(timeout=TURN_S)
            except queue.Empty:
                job = self._store.flush
            if job is None:
                break
            self._attempt(job)
            self._thread.advance()
        self._attempt(self._store.close)

    def _attempt(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            self._n_failed += 1
            log.exception("history: unexpected error")
