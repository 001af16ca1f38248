"""Streaming resampling with soxr, in float32 only, so that the output does not depend on block sizes."""

from collections import deque

import numpy as np
import soxr

from monitor.arrays import F32
from monitor.block import Block


class Resampler:
    """Converts consecutive samples at one rate into blocks at another, numbered from `start`."""

    def __init__(self, *, from_hz: int, to_hz: int, start: int = 0) -> None:
        self._from_hz, self._to_hz = from_hz, to_hz
        self._stream = None
        if from_hz != to_hz:
            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
        self._origin = self._next = start
        self._n_in = 0
        self._repeating_in = self._repeating_out = False
        self._changes: deque[int] = deque()  # output samples at which `repeating` changes

    def push(self, samples: F32, *, repeating: bool = False) -> list[Block]:
        """Append samples (n,); return the blocks that are ready."""
        if repeating != self._repeating_in:
            self._changes.append(self._origin + self._n_in * self._to_hz // self._from_hz)
            self._repeating_in = repeating
        self._n_in += len(samples)
        return self._blocks(self._resample(samples, last=False))

    def flush(self, *, stop: float = float("inf")) -> list[Block]:
        """Return the rest of the sound, up to sample `stop`."""
        if self._stream is None:
            return []
        rest = self._resample(np.empty(0, np.float32), last=True)
        return self._blocks(rest[: max(0, int(min(stop - self._next, len(rest))))])

    def _resample(self, samples: F32, *, last: bool) -> F32:
        return samples if self._stream is None else np.asarray(self._stream.resample_chunk(samples, last=last), np.float32)

    def _blocks(self, samples: F32) -> list[Block]:
        blocks = []
        while len(samples):
            while self._changes and self._changes[0] <= self._next:
                self._changes.popleft()
                self._repeating_out = not self._repeating_out
            n = min(len(samples), self._changes[0] - self._next if self._changes else len(samples))
            blocks.append(Block(self._next, samples[:n], repeating=self._repeating_out))
            self._next += n
            samples = samples[n:]
        return blocks
