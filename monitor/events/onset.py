"""One anomaly from onset to end: the data for its events, in samples."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from monitor.clock import STEP_S
from monitor.events.event import EventClock, RaisedBy, Severity
from monitor.explain.describe import Description


@dataclass(frozen=True)
class ScoredTick:
    """A scored tick, stored until it is too old to be an onset."""

    start: int
    stop: int
    own_ratio: Callable[[], float]  # of this tick alone; computed only near an anomaly
    ratio: float | None  # of the segment that ends with this tick
    fast_ratio: float = 0.0  # on the fast path, of this tick and the previous one

    @cached_property
    def passed(self) -> bool:
        """Whether the score of this tick alone was over the threshold."""
        return self.own_ratio() >= 1.0


class OnsetTracker:
    """The scored ticks at which an anomaly may have begun: `raise_n` segments and the ticks of the first of them."""

    def __init__(self, *, raise_n: int, segment_ticks: int) -> None:
        self._segment_ticks = segment_ticks
        self._ticks: deque[ScoredTick] = deque(maxlen=raise_n + segment_ticks)

    def push(self, tick: ScoredTick) -> None:
        """Append a scored tick."""
        self._ticks.append(tick)

    def clear(self) -> None:
        """Drop all ticks, because ticks of one anomaly cannot be the onset of the next."""
        self._ticks.clear()

    def anomaly(self, severity: Severity) -> "Anomaly":
        """The anomaly that begins now.

        Its onset is the first tick whose own score was over the threshold, within the first segment that was over it. Single
        ticks scatter more than segments. A tick is therefore skipped if less than half of the ticks from it to the end of that
        segment were over the threshold.
        """
        ticks = list(self._ticks)
        first = next(i for i, tick in enumerate(ticks) if (tick.ratio or 0.0) >= 1.0)
        reach = range(max(0, first - self._segment_ticks + 1), first + 1)
        onset = next((i for i in reach if ticks[i].passed and _mostly(ticks[i : first + 1])), first)
        last = max((i for i in range(onset, len(ticks)) if ticks[i].passed), default=onset)
        peak = max(tick.ratio for tick in ticks[first:] if tick.ratio is not None)
        return Anomaly(start=ticks[onset].start, last_stop=ticks[last].stop, peak_ratio=peak, severity=severity)

    def gross(self, n_ticks: int) -> "Anomaly":
        """The anomaly that the fast path raised on the last `n_ticks` ticks."""
        ticks = list(self._ticks)[-n_ticks:]
        return Anomaly(
            start=ticks[0].start,
            last_stop=ticks[-1].stop,
            peak_ratio=ticks[-1].fast_ratio,
            severity="alarm",
            raised_by="fast",
        )


def _mostly(ticks: list[ScoredTick]) -> bool:
    return 2 * sum(tick.passed for tick in ticks) >= len(ticks)


@dataclass
class Anomaly:
    """An open anomaly. Its other fields are as last published.

    `start` and `last_stop` bound the ticks whose own score was over the threshold.
    """

    start: int
    last_stop: int
    peak_ratio: float  # on the scale of `raised_by`
    severity: Severity
    raised_by: RaisedBy = "segments"
    seq: int = 0
    sent_at: int = 0  # sample index of the last published event
    times: tuple[datetime, datetime] | None = None  # of that event, and of the onset
    description: Description = field(default_factory=Description)

    def set_times(self, stop: int, clock: EventClock) -> tuple[datetime, datetime]:
        """The times of an event published at sample `stop`, and of the onset.

        The onset is fixed by the first event. Only if the clock was set since the last event, it moves by as much, so that
        both times are of the same clock.
        """
        ts = clock.at(stop)
        if self.times is None:
            self.sent_at, self.times = self.start, (clock.at(self.start), clock.at(self.start))
        last_ts, onset_ts = self.times
        step = ts - last_ts - timedelta(seconds=(stop - self.sent_at) / clock.sample_rate_hz)
        self.sent_at, self.times = stop, (ts, onset_ts + step if abs(step) > timedelta(seconds=STEP_S) else onset_ts)
        return self.times

    def update(self, tick: ScoredTick) -> None:
        """Include one more scored tick."""
        if tick.fast_ratio >= 1.0:
            self.last_stop = tick.stop
        if self.raised_by == "fast":
            self.peak_ratio = max(self.peak_ratio, tick.fast_ratio)
        if tick.ratio is None:
            return
        if tick.ratio >= 1.0 and tick.passed:  # ignore a tick that passes by chance long afterwards
            self.last_stop = tick.stop
        if self.raised_by == "segments":
            self.peak_ratio = max(self.peak_ratio, tick.ratio)
