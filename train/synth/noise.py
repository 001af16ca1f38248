"""Building blocks: seeded noise, spectral shapes as FIR filters, and filtering chunk by chunk."""

import zlib

import numpy as np
from scipy import signal

from monitor.arrays import F64


def rng(seed: int, *names: int | str) -> np.random.Generator:
    """A separate generator for every purpose, so that draws of one source never shift another."""
    keys = [zlib.crc32(name.encode()) if isinstance(name, str) else name for name in names]
    return np.random.default_rng([seed, *keys])


def spectral_shape(points: dict[float, float], *, sample_rate_hz: int, n_taps: int = 1025) -> F64:
    """A FIR filter (n_taps,) whose gain passes through {frequency_hz: gain_db}; flat beyond the ends."""
    nyquist_hz = sample_rate_hz / 2
    grid_hz = np.linspace(0.0, nyquist_hz, 257)
    hz = sorted(points)
    gain_db = np.interp(np.log10(np.maximum(grid_hz, 1.0)), np.log10(hz), [points[f] for f in hz])
    taps: F64 = signal.firwin2(n_taps, grid_hz, 10.0 ** (gain_db / 20.0), fs=sample_rate_hz)
    return taps


class StreamFilter:
    """Convolve a stream with a FIR filter chunk by chunk, with the same result as in one piece."""

    def __init__(self, taps: F64) -> None:
        self._taps = taps
        self._tail = np.zeros(len(taps) - 1)

    def push(self, chunk: F64) -> F64:
        """Filter chunk (n,), returning (n,)."""
        full = signal.oaconvolve(chunk, self._taps)
        full[: len(self._tail)] += self._tail
        self._tail = full[len(chunk) :].copy()
        filtered: F64 = full[: len(chunk)]
        return filtered


def ringing(modes: dict[float, float], *, decay_s: float, sample_rate_hz: int) -> F64:
    """The sound of one knock: {frequency_hz: amplitude} modes that decay together, e-fold in `decay_s`."""
    t = np.arange(round(6 * decay_s * sample_rate_hz)) / sample_rate_hz
    sound: F64 = np.sum([a * np.sin(2 * np.pi * f * t) for f, a in modes.items()], axis=0) * np.exp(-t / decay_s)
    return sound
