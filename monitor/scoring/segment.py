"""The segment: the sum over the last valid ticks. It is the unit of scores and decisions."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F64
from monitor.scoring.tick_sound import TickSound


@dataclass(frozen=True)
class Measured:
    """One valid tick: the detector's sums (k,) and its sound."""

    sums: F64
    sound: TickSound


class Segment:
    """The last `n_ticks` valid ticks, at most `2 * n_ticks` ticks old. It can be scored once it is half full."""

    def __init__(self, *, n_ticks: int, step_samples: int) -> None:
        self._n_ticks = n_ticks
        self._oldest = 2 * n_ticks * step_samples
        self._ticks: deque[Measured] = deque(maxlen=n_ticks)

    def __len__(self) -> int:
        return len(self._ticks)

    def advance(self, stop: int) -> None:
        """Advance to sample `stop`: drop ticks that have become too old."""
        while self._ticks and self._ticks[0].sound.start < stop - self._oldest:
            self._ticks.popleft()

    def push(self, tick: Measured) -> None:
        """Append a valid tick. When the segment is full, the oldest one is dropped."""
        self._ticks.append(tick)

    @property
    def is_scorable(self) -> bool:
        """Whether the segment holds enough ticks."""
        return 2 * len(self._ticks) >= self._n_ticks

    def sums(self) -> F64:
        """The detector's sums (k,) over the segment, which must not be empty."""
        return np.asarray(np.add.reduce([tick.sums for tick in self._ticks]))

    def last_sums(self) -> F64:
        """The detector's sums (k,) over the newest tick of the segment, which must not be empty."""
        return self._ticks[-1].sums

    def sounds(self) -> list[TickSound]:
        """The sound of each tick, oldest first."""
        return [tick.sound for tick in self._ticks]
