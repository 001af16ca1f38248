"""Supervised threads: an exception that ends one is logged and counted, and a watchdog can check its progress."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The watchdog's view of one thread."""

    name: str
    is_alive: Callable[[], bool]
    advanced: Callable[[], int]  # a number that changes while the thread makes progress or is idle
    n_failures: Callable[[], int]  # unexpected errors since the start
    patience_s: float  # how long that number may stay unchanged


class WatchedThread:
    """A daemon thread. Its function calls `advance` whenever it makes progress, and at least every few seconds."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self.n_failures = 0
        self._name = name
        self._run = run
        self._n_advances = 0
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. Call this once."""
        self._thread.start()

    def advance(self) -> None:
        """Report progress; called by the thread's own function."""
        self._n_advances += 1

    def advanced(self) -> int:
        """A number that changes with every advance."""
        return self._n_advances

    def is_alive(self) -> bool:
        """Whether its function is still running."""
        return self._thread.is_alive()

    def probe(self, *, patience_s: float) -> Probe:
        """The watchdog's view of this thread."""
        return Probe(
            name=self._name,
            is_alive=self.is_alive,
            advanced=self.advanced,
            n_failures=lambda: self.n_failures,
            patience_s=patience_s,
        )

    def join(self, timeout_s: float) -> None:
        """Wait for its function to return, at most `timeout_s`."""
        self._thread.join(timeout_s)

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException:
            self.n_failures += 1
            log.exception("thread %s ended by an unexpected error", self._name)


class Watchdog:
    """Checks that every registered thread is alive and advances."""

    def __init__(self) -> None:
        self._probes: list[Probe] = []
        self._seen: dict[str, tuple[int, float]] = {}  # the last number, and when it changed

    def watch(self, *probes: Probe) -> None:
        """Register threads to check."""
        self._probes += probes

    def stalled(self, now: float) -> list[str]:
        """Descriptions of the threads that have ended or do not advance. `now` is monotonic time in s."""
        problems = []
        for probe in self._probes:
            number = probe.advanced()
            if probe.name not in self._seen or self._seen[probe.name][0] != number:
                self._seen[probe.name] = (number, now)
            waited_s = now - self._seen[probe.name][1]
            if not probe.is_alive():
                problems.append(f"{probe.name} has ended")
            elif waited_s > probe.patience_s:
                problems.append(f"{probe.name} for {waited_s:.0f} s")
        return problems

    @property
    def n_failures(self) -> int:
        """Unexpected errors in all threads since the start."""
        return sum(probe.n_failures() for probe in self._probes)
