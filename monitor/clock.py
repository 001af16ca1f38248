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
    """Monitors the wall clock until it is synchronised."""

    def __init__(self) -> None:
        self.synced = clock_synced()
        self._ahead_s = _ahead_s()

    def poll(self, corrected: Corrected) -> None:
        """Report each step as it happens, because later timestamps are already correct. Call this once a second."""
        if self.synced:
            return
        self.synced = clock_synced()
        ahead_s = _ahead_s()
        step_s = ahead_s - self._ahead_s
        stepped = abs(step_s) > STEP_S
        if stepped or self.synced:
            corrected(step_s if stepped else 0.0, synced=self.synced)
        self._ahead_s = ahead_s


def _ahead_s() -> float:
    """Wall-clock time minus monotonic time."""
    return time.time() - time.monotonic()


def clock_synced() -> bool:
    """Whether the kernel considers the clock synchronised; if it may not be queried, whether systemd-timesyncd does."""
    answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # all zero: change nothing
    if answer >= 0:
        return bool(answer != _TIME_ERROR)
    return _SYNCHRONISED.exists()
