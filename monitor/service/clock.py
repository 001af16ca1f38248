"""A Pi without a battery wakes up in the past; some time later its clock is set, once."""

import time
from collections.abc import Callable

from monitor.sources.wallclock import clock_synced


class Clock:
    """Watches for the moment at which the wall clock is set."""

    def __init__(self) -> None:
        self.synced = clock_synced()
        self._ahead_s = _ahead_s()

    def look(self, corrected: Callable[[float], None]) -> None:
        """Call `corrected` with the seconds by which the clock was behind, when it has just been set."""
        if not self.synced and clock_synced():
            self.synced = True
            corrected(_ahead_s() - self._ahead_s)


def _ahead_s() -> float:
    """The wall clock against the monotonic one."""
    return time.time() - time.monotonic()
