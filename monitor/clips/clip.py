"""The clip of an event, and the pre-roll buffer with the sound before it."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32
from monitor.block import Block
from monitor.events.event import Event


@dataclass(frozen=True, kw_only=True)
class EventClip:
    """The sound from sample `start` up to `stop`, and the ratios of the ticks in it. Immutable."""

    event: Event  # its latest message
    rate_hz: int
    onset: int  # sample index; may precede `start`
    raised: int  # the sample at which the anomaly was raised
    start: int
    stop: int
    blocks: tuple[Block, ...]  # contiguous, extending beyond `start` and `stop`
    ratios: tuple[tuple[int, float | None], ...]  # the stop and the ratio of each tick

    def samples(self) -> F32:
        """The sound (stop - start,), float32, full scale [-1, 1]."""
        parts = [block.samples[max(0, self.start - block.start) : max(0, self.stop - block.start)] for block in self.blocks]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)


class PreRollBuffer:
    """The latest unbroken sound, up to `n_samples` before the newest block. A gap discards the sound before it."""

    def __init__(self, *, n_samples: int) -> None:
        self.start = 0  # of the unbroken sound, whose beginning may have been dropped
        self.stop = 0
        self._n_samples = n_samples
        self._blocks: deque[Block] = deque()
        self._ratios: deque[tuple[int, float | None]] = deque()

    def follows(self, block: Block) -> bool:
        """Whether a block continues the buffered sound."""
        return block.start == self.stop and bool(self._blocks)

    def push(self, block: Block) -> None:
        """Append a block."""
        if not self.follows(block):
            self._blocks.clear()
            self._ratios.clear()
            self.start = block.start
        self._blocks.append(block)
        self.stop = block.start + len(block.samples)
        oldest = block.start - self._n_samples
        while self._blocks[0].start + len(self._blocks[0].samples) <= oldest:
            self._blocks.popleft()
        while self._ratios and self._ratios[0][0] <= oldest:
            self._ratios.popleft()

    def add_ratio(self, stop: int, ratio: float | None) -> None:
        """Append the ratio of a tick."""
        self._ratios.append((stop, ratio))

    def since(self, start: int) -> tuple[tuple[Block, ...], tuple[tuple[int, float | None], ...]]:
        """The blocks, and the ratios of the ticks, that end after sample `start`."""
        blocks = tuple(block for block in self._blocks if block.start + len(block.samples) > start)
        return blocks, tuple(one for one in self._ratios if one[0] > start)
