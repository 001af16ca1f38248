"""The excerpt of a recording that is described: at most one segment."""

import math
from collections.abc import Sequence

from monitor.scoring.scorer import TickScore
from monitor.scoring.tick_sound import TickSound


class Excerpt:
    """The segment with the highest score, or all of a recording shorter than a segment. Memory use is constant."""

    def __init__(self) -> None:
        self.sounds: Sequence[TickSound] = ()
        self._best = (0, -math.inf)  # ticks in the segment, score; only full segments compete by score

    def push(self, tick: TickScore, sounds: Sequence[TickSound]) -> None:
        """Process the next tick and the ticks of the segment that ends with it."""
        rank = (tick.n_ticks, -math.inf if tick.score is None else tick.score)
        if rank > self._best:
            self._best, self.sounds = rank, sounds
