"""A background worker: runs jobs that may wait for the disk one after another on a thread."""

import logging
import threading
from collections import deque
from collections.abc import Callable

from monitor.errors import StethosError
from monitor.threads import Probe, WatchedThread

log = logging.getLogger(__name__)
MAX_WAITING = 8
Job = Callable[[], None]


class BackgroundWorker:
    """Runs jobs on a thread that exists while there are any. A job that does not fit in the queue is dropped, counted, logged."""

    def __init__(self, name: str) -> None:
        """`name` is used in the log and for the thread."""
        self.n_dropped = 0  # the queue was full
        self.n_failed = 0
        self.n_unexpected = 0  # of those that failed, with an exception other than StethosError
        self._name = name
        self._lock = threading.Lock()  # only held briefly
        self._waiting: deque[Job] = deque()
        self._thread: WatchedThread | None = None
        self._n_done = 0
        self._is_behind = False
        self._start_failed = False
        self._error: str | None = None  # of the last job

    def put(self, job: Job) -> None:
        """Queue a job, or drop it if the queue is full. Returns at once. A job raises StethosError to report a failure."""
        with self._lock:
            is_full = len(self._waiting) >= MAX_WAITING
            if is_full:
                self.n_dropped += 1
            else:
                self._waiting.append(job)
            is_new, self._is_behind = is_full != self._is_behind, is_full
        self.start_if_needed()
        if is_new and is_full:
            log.error("%s: the disk is too slow; dropped so far: %d", self._name, self.n_dropped)

    def start_if_needed(self) -> None:
        """Start a thread where jobs wait without one. If the system refuses it, every later call tries again."""
        try:
            with self._lock:
                if self._waiting and self._thread is None:
                    thread = WatchedThread(self._name, self._work)
                    thread.start()
                    self._thread, self._start_failed = thread, False
        except (RuntimeError, MemoryError) as error:
            self.n_unexpected += 1
            is_new, self._start_failed = not self._start_failed, True
            if is_new:
                log.error("%s: cannot start a thread, retrying: %s", self._name, error)

    def close(self, timeout_s: float) -> None:
        """Wait until all jobs are done, at most that long."""
        self.start_if_needed()
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def probe(self, *, patience_s: float) -> Probe:
        """The view of its thread, for the watchdog: it advances with every job, and while none waits."""
        return Probe(
            name=self._name,
            is_alive=self._is_alive,
            advanced=self._advanced,
            n_failures=lambda: self.n_unexpected,
            patience_s=patience_s,
        )

    def _is_alive(self) -> bool:
        with self._lock:
            return self._thread is None or self._thread.is_alive()

    def _advanced(self) -> int:
        self.start_if_needed()
        with self._lock:
            self._n_done += self._thread is None and not self._waiting
            return self._n_done

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                job = self._waiting.popleft()
            self._report(self._run(job))
            with self._lock:
                self._n_done += 1

    def _run(self, job: Job) -> str | None:
        """Run a job; return the error if it fails."""
        try:
            job()
        except StethosError as error:
            self.n_failed += 1
            return str(error)
        except Exception as error:
            self.n_failed += 1
            self.n_unexpected += 1
            text = f"unexpected error: {type(error).__name__}: {error}"
            if text != self._error:
                log.exception("%s: %s", self._name, text)
            return text
        return None

    def _report(self, error: str | None) -> None:
        """Log a failure once, and the first success after it."""
        if error is None and self._error is not None:
            log.info("%s: written again; failed so far: %d", self._name, self.n_failed)
        elif error is not None and self._error is None and not error.startswith("unexpected error"):
            log.error("%s: %s", self._name, error)
        self._error = error
