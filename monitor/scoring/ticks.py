"""Cut a stream of blocks into ticks, the fixed batches in which everything is computed."""

from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32
from monitor.block import Block


@dataclass(frozen=True)
class Tick:
    """The samples of `tick_frames` frames: (tick_frames * hop_length + n_fft - hop_length,), float32.

    Only the first `n_frames` frames hold sound, the rest is padding. `fresh`: there is no sound directly before it.
    `repeating`: some of it comes from a source that is stuck.
    """

    start: int
    samples: F32
    n_frames: int
    fresh: bool
    repeating: bool


class Ticks:
    """Collect blocks until a tick is full. A gap drops the partial tick and starts a new one."""

    def __init__(self, *, n_fft: int, hop_length: int, tick_frames: int) -> None:
        self.step_samples = tick_frames * hop_length
        self._hop_length = hop_length
        self._n_fft = n_fft
        self._buffer = np.zeros(self.step_samples + n_fft - hop_length, np.float32)
        self.reset()

    def reset(self) -> None:
        """Drop the partial tick. The next block starts a new stream."""
        self._filled = 0
        self._start = 0
        self._next: int | None = None
        self._fresh = True
        self._repeating = False

    @property
    def n_missing(self) -> int:
        """The number of samples until the next tick is full."""
        return len(self._buffer) - self._filled

    def push(self, block: Block) -> list[Tick]:
        """Append a block and return the ticks that it completes."""
        if block.start != self._next:
            self._filled, self._start, self._fresh, self._repeating = 0, block.start, True, False
        self._next = block.start + len(block.samples)
        ticks: list[Tick] = []
        rest = block.samples
        while len(rest):
            n = min(len(rest), len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + n] = rest[:n]
            self._filled += n
            self._repeating |= block.repeating
            rest = rest[n:]
            if self._filled == len(self._buffer):
                ticks.append(self._complete())
        return ticks

    def flush(self) -> list[Tick]:
        """Return the partial tick, padded with zeros, if it holds at least one whole frame. Then reset."""
        n_frames = max(0, 1 + (self._filled - self._n_fft) // self._hop_length)
        ticks = []
        if n_frames:
            self._buffer[self._filled :] = 0.0
            ticks = [Tick(self._start, self._buffer, n_frames, self._fresh, self._repeating)]
            self._buffer = np.zeros_like(self._buffer)
        self.reset()
        return ticks

    def _complete(self) -> Tick:
        """The full buffer as a tick. The new buffer begins with the samples that both ticks share."""
        tick = Tick(self._start, self._buffer, self.step_samples // self._hop_length, self._fresh, self._repeating)
        shared = self._buffer[self.step_samples :]
        self._buffer = np.zeros_like(self._buffer)
        self._buffer[: len(shared)] = shared
        self._filled, self._fresh, self._repeating = len(shared), False, False
        self._start += self.step_samples
        return tick
