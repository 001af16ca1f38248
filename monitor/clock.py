"""Detect when the clock is set. A Pi without a battery boots in the past; later its clock is set, in one step or several."""

import ctypes
import time
from pathlib import Path
from typing import Protocol

STEP_S = 0.5  # a larger change means that the clock was set, not disciplined
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")


class Corrected(Protocol):
    """A callback for when the clock was set."""

    def __call__(self, offset_s: float, *, synced: bool) -> None:
        """The clock was `offset_s` behind; `synced` is whether it is reliable now."""
        ...


class Clock:
    """The wall clock as it is read once a second, for everything in this run that has times.

    Because all read it here, an event was made either before a step, and is corrected, or after it, and is not.
    """

    def __init__(self) -> None:
        self.synced = clock_synced()
        self._was_synced = self.synced
        self._ahead_s = _ahead_s()

    def now(self, monotonic_s: float) -> float:
        """The time since 1970 at a time of the monotonic clock, in s, as the clock was set at the last `poll`."""
        return monotonic_s + self._ahead_s

    def poll(self, corrected: Corrected) -> None:
        """Read the clock. Report each step until it is synchronised for the first time; later times are already correct."""
        self.synced = clock_synced()
        before_s, self._ahead_s = self._ahead_s, _ahead_s()
        step_s = self._ahead_s - before_s
        stepped = abs(step_s) > STEP_S
        if not self._was_synced and (stepped or self.synced):
            corrected(step_s if stepped else 0.0, synced=self.synced)
        self._was_synced = self._was_synced or self.synced


class SteadyClock:
    """Seconds since 1970 that go on evenly when the system clock is set. Durations are measured with it."""

    def __init__(self) -> None:
        self._ahead_s = _ahead_s()
        self._step_s = 0.0

    def now(self) -> float:
        """The time since 1970 by the system clock of the start, in s."""
        return time.monotonic() + self._ahead_s

    @property
    def step_s(self) -> float:
        """How far the system clock was set since the start, in s. To be added to times that people see or a restart needs."""
        step_s = _ahead_s() - self._ahead_s
        if abs(step_s - self._step_s) > STEP_S:
            self._step_s = step_s
        return self._step_s


def _ahead_s() -> float:
    """Wall-clock time minus monotonic time."""
    return time.time() - time.monotonic()


def clock_synced() -> bool:
    """Whether the kernel considers the clock synchronised; if it may not be queried, whether systemd-timesyncd does."""
    answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # all zero: change nothing
    if answer >= 0:
        return bool(answer != _TIME_ERROR)
    return _SYNCHRONISED.exists()
