"""One anomaly from onset to end: what its events say, counted in samples."""

from collections import deque
from dataclasses import dataclass

from monitor.core.bands import Band


@dataclass(frozen=True)
class Heard:
    """A scored tick, kept until it is too old to be an onset."""

    start: int
    stop: int
    tick_ratio: float
    ratio: float | None  # of the segment that ends here


class Memory:
    """The scored ticks that a raise may reach back to: `raise_n` segments and the ticks of the first of them."""

    def __init__(self, *, raise_n: int, segment_ticks: int) -> None:
        self._segment_ticks = segment_ticks
        self._ticks: deque[Heard] = deque(maxlen=raise_n + segment_ticks)

    def push(self, heard: Heard) -> None:
        """Remember a scored tick."""
        self._ticks.append(heard)

    def clear(self) -> None:
        """Forget them: what belonged to one anomaly is not the onset of the next."""
        self._ticks.clear()

    def anomaly(self) -> "Anomaly":
        """The anomaly that begins now: from the first tick whose own score passed, within the segments that passed."""
        ticks = list(self._ticks)
        first = next(i for i, tick in enumerate(ticks) if (tick.ratio or 0.0) >= 1.0)
        reach = ticks[max(0, first - self._segment_ticks + 1) :]
        passed = [tick for tick in reach if tick.tick_ratio >= 1.0] or ticks[first:]
        peak = max(tick.ratio for tick in ticks[first:] if tick.ratio is not None)
        return Anomaly(start=passed[0].start, last_stop=passed[-1].stop, peak_ratio=peak)


@dataclass
class Anomaly:
    """An open anomaly. `start` and `last_stop` bound the ticks whose own score passed; `bands` are the latest said."""

    start: int
    last_stop: int
    peak_ratio: float
    seq: int = 0
    said_at: int = 0  # sample index of the last event sent
    bands: tuple[Band, ...] = ()

    def hear(self, heard: Heard) -> None:
        """Take one more scored tick into account."""
        if heard.tick_ratio >= 1.0:
            self.last_stop = heard.stop
        if heard.ratio is not None:
            self.peak_ratio = max(self.peak_ratio, heard.ratio)
