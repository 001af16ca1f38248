"""Made signals for tests, NumPy only: the same everywhere."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from monitor.arrays import F32
from monitor.block import Block


def noise(seed: int, n: int, *, level: float = 0.05) -> F32:
    return (level * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def hum(seed: int, n: int, *, rate_hz: int = 16000) -> F32:
    """A few tones over noise: enough of a machine for a test."""
    t = np.arange(n) / rate_hz
    tones = sum(0.05 / k * np.sin(2 * np.pi * 97.0 * k * t + k) for k in range(1, 6))
    return np.asarray(tones + noise(seed, n, level=0.01), np.float32)


def blocks(signal: F32, cuts: Sequence[int] = ()) -> list[Block]:
    """The signal as consecutive blocks, cut at the given sample indexes."""
    edges = [0, *sorted(min(max(0, cut), len(signal)) for cut in cuts), len(signal)]
    return [Block(a, signal[a:b]) for a, b in pairwise(edges)]


def even_blocks(signal: F32, size: int) -> list[Block]:
    return blocks(signal, range(size, len(signal), size))
