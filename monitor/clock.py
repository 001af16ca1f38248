"""A Pi without a battery wakes up in the past; some time later its clock is set, at once or in several steps."""

import ctypes
import time
from pathlib import Path
from typing import Protocol

STEP_S = 0.5  # a wall clock that is off by more has been set, not disciplined
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")


class Corrected(Protocol):
    """Told when the clock was set."""

    def __call__(self, offset_s: float, *, synced: bool) -> None:
        """It was `offset_s` behind; `synced` says whether it can be believed now."""
        ...


class Clock:
    """Watches the wall clock until it can be believed."""

    def __init__(self) -> None:
        self.synced = clock_synced()
        self._ahead_s = _ahead_s()

    def poll(self, corrected: Corrected) -> None:
        """Tell each step as it comes: what was timed after it is right already. Called once a second."""
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
    """The wall clock against the monotonic one."""
    return time.time() - time.monotonic()


def clock_synced() -> bool:
    """Ask the kernel; where a service may not, ask what systemd-timesyncd has left."""
    answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # all zero: change nothing
    if answer >= 0:
        return bool(answer != _TIME_ERROR)
    return _SYNCHRONISED.exists()
