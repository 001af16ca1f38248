"""Errands: work that may wait for the disk, done one after another on a thread of its own."""

import logging
import threading
from collections import deque
from collections.abc import Callable

from monitor.errors import StethosError

log = logging.getLogger(__name__)
MAX_WAITING = 8
Job = Callable[[], None]


class BackgroundWorker:
    """The thread lives as long as there is something to do. What is too much is dropped, counted and said."""

    def __init__(self, what: str) -> None:
        """`what` it is, for the log."""
        self.n_dropped = 0  # for want of room
        self.n_failed = 0
        self._what = what
        self._lock = threading.Lock()  # held for an instant only
        self._waiting: deque[Job] = deque()
        self._thread: threading.Thread | None = None
        self._is_behind = False
        self._trouble: str | None = None

    def put(self, job: Job) -> None:
        """Have it done, or drop it; returns at once. A job raises StethosError when it fails."""
        with self._lock:
            is_full = len(self._waiting) >= MAX_WAITING
            if is_full:
                self.n_dropped += 1
            else:
                self._waiting.append(job)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name=self._what, daemon=True)
                self._thread.start()
            news, self._is_behind = is_full != self._is_behind, is_full
        if news and is_full:
            log.error("%s: the disk does not keep up; dropped so far: %d", self._what, self.n_dropped)

    def close(self, timeout_s: float) -> None:
        """Wait until all is done, unless it takes longer."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                job = self._waiting.popleft()
            try:
                job()
                trouble = None
            except StethosError as error:
                self.n_failed += 1
                trouble = str(error)
            if trouble is None and self._trouble is not None:
                log.info("%s: written again; failed so far: %d", self._what, self.n_failed)
            elif trouble is not None and self._trouble is None:
                log.error("%s: %s", self._what, trouble)
            self._trouble = trouble
