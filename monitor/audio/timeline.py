"""Map a microphone's sample index to the monotonic clock and to UTC.

The index follows the device's crystal, which drifts. The mapping is therefore piecewise linear: it bends when needed, by at most
MAX_PPM. Times before a bend do not change. Only a step of the wall clock shifts the line at once, and earlier times with it, so
that the time between two samples is that of the sound.
"""

from bisect import bisect_right
from datetime import datetime, timezone
from typing import NamedTuple

from monitor.clock import STEP_S

MAX_PPM = 500.0
WINDOW_S = 10.0  # the interval at which the line may bend
TOLERANCE_S = 0.002  # smaller errors are ignored
CATCH_UP_S = 30.0  # an error is corrected over this time
MAX_BENDS = 4096  # older bends are hours in the past, where milliseconds do not matter


class _Bend(NamedTuple):
    """The start of a straight segment of the line."""

    sample: int
    monotonic_s: float
    utc_s: float
    slower: float  # real seconds per nominal second of samples, minus 1
    utc_faster: float  # seconds of UTC per monotonic second, minus 1
    stepped_s: float = 0.0  # total of the wall clock's steps so far


class Timeline:
    """The mapping for one reader. Sample 0 was at `monotonic_s` and `utc_s`. The count continues through gaps."""

    def __init__(self, *, sample_rate_hz: int, monotonic_s: float, utc_s: float, synced: bool) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.began_s = monotonic_s
        self.synced = synced
        self._bends = [_Bend(0, monotonic_s, utc_s, 0.0, 0.0)]
        self._drift = 0.0  # estimated drift of the device's crystal, in the same unit as `slower`
        self._earliest_s = float("inf")  # earliest arrival in this window, relative to the line
        self._window_from_s = monotonic_s
        self._utc_from_s = monotonic_s

    def at(self, sample: int) -> datetime:
        """The UTC time of a sample, by the wall clock as it is set now."""
        index = bisect_right(self._bends, sample, key=lambda bend: bend.sample) - 1
        bend = self._bends[max(0, index)]
        return datetime.fromtimestamp(self._utc_s(bend, sample) + self._bends[-1].stepped_s - bend.stepped_s, timezone.utc)

    def sample_at(self, monotonic_s: float) -> int:
        """The sample that was due at this time on the monotonic clock."""
        bend = self._bends[-1]
        return bend.sample + round((monotonic_s - bend.monotonic_s) * self.sample_rate_hz / (1 + bend.slower))

    def arrives_s(self, sample: int) -> float:
        """When all samples before `sample` should have arrived, on the monotonic clock."""
        return self._monotonic_s(self._bends[-1], sample)

    def arrived(self, sample: int, monotonic_s: float) -> None:
        """Record that all samples before `sample` had arrived by `monotonic_s`, and fit the line to the earliest arrivals."""
        bend = self._bends[-1]
        self._earliest_s = min(self._earliest_s, monotonic_s - self._monotonic_s(bend, sample))
        if monotonic_s - self._window_from_s < WINDOW_S:
            return
        error_s = self._earliest_s
        if abs(error_s) > TOLERANCE_S:
            self._drift = _limited(self._drift + 0.1 * error_s / WINDOW_S)
            self._bend(sample, slower=_limited(self._drift + error_s / CATCH_UP_S), utc_faster=bend.utc_faster)
        elif bend.slower != self._drift:
            self._bend(sample, slower=self._drift, utc_faster=bend.utc_faster)
        self.begin_run(monotonic_s)

    def begin_run(self, monotonic_s: float) -> None:
        """Discard earlier arrivals, because a reopened device may have a different latency."""
        self._window_from_s = monotonic_s
        self._earliest_s = float("inf")

    def set_utc(self, utc_s: float, *, monotonic_s: float, synced: bool) -> float | None:
        """Track the wall clock. If it was stepped, apply the step at once and return it in seconds."""
        self.synced = synced
        now = self.sample_at(monotonic_s)
        bend = self._bends[-1]
        error_s = utc_s - self._utc_s(bend, now)
        if abs(error_s) > STEP_S:
            self._bend(now, slower=bend.slower, utc_faster=0.0, step_s=error_s)
            return error_s
        if monotonic_s - self._utc_from_s >= WINDOW_S:
            self._utc_from_s = monotonic_s
            faster = _limited(error_s / CATCH_UP_S) if abs(error_s) > TOLERANCE_S else 0.0
            if faster != bend.utc_faster:
                self._bend(now, slower=bend.slower, utc_faster=faster)
        return None

    def _bend(self, sample: int, *, slower: float, utc_faster: float, step_s: float = 0.0) -> None:
        bend = self._bends[-1]
        sample = max(sample, bend.sample)
        monotonic_s, utc_s = self._monotonic_s(bend, sample), self._utc_s(bend, sample) + step_s
        self._bends.append(_Bend(sample, monotonic_s, utc_s, slower, utc_faster, bend.stepped_s + step_s))
        del self._bends[:-MAX_BENDS]

    def _monotonic_s(self, bend: _Bend, sample: int) -> float:
        return bend.monotonic_s + (sample - bend.sample) / self.sample_rate_hz * (1 + bend.slower)

    def _utc_s(self, bend: _Bend, sample: int) -> float:
        return bend.utc_s + (sample - bend.sample) / self.sample_rate_hz * (1 + bend.slower) * (1 + bend.utc_faster)


def _limited(slope: float) -> float:
    return max(-MAX_PPM * 1e-6, min(MAX_PPM * 1e-6, slope))
