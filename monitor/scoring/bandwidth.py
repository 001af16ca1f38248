"""Bandwidth check: detect sound that lacks the bundle's upper bands because its sample rate is too low or it was resampled."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F32, F64
from monitor.scoring.front_end import FrontEndSpec

# Minimum drop across the edge and below the expected level. A machine that is merely quieter does not fall off so steeply.
MARGIN_DB = 15.0
SIDE = 3  # bands averaged on either side of an edge, which is up to two bands wide
MIN_BANDS = 4  # required above the edge, because the end of a whistle affects fewer
EDGE_MARGIN_DB = 6.0  # the same drop, where the samples show the edge
_BELOW_LOUDEST_DB = 100.0  # a band this far below the loudest one is expected to be empty
_ABOVE_FLOOR_DB = 6.0  # a band less than this above the floor is expected to be empty

_N_RANGES = 128  # equal ranges of frequency in which an edge is searched
_BELOW = (0.75, 0.87)  # fractions of an edge's frequency, under which even a cheap resampler passes the sound
_LOWEST, _HIGHEST = 0.125, 0.95  # fractions of half the rate: every anti-aliasing filter has an edge near the end
DROP_DB = 25.0
# In dB per hertz, relative to full scale. Rounding to 16 bits with dither gives -135 at 16 kHz, good microphones -125 and more.
_NEARLY_NOTHING_DB, _NOTHING_DB = -125.0, -150.0
_FLAT_DB = 4.0  # rounding is white; a machine that fades into it is not
_EDGES = range(round(_LOWEST * _N_RANGES), round(_HIGHEST * _N_RANGES))  # each the lower limit of a range
_ROUNDING_DB = 1e-6  # of means that are computed from running sums


def empty_bands(rate_hz: int, spec: FrontEndSpec, expected_db: F32 | None = None) -> int:
    """The number of bands of which at least half lies above half the sample rate.

    With `expected_db`, only those in which sound is expected: none if the expected level itself falls off there.
    """
    limits_hz = spec.band_limits_hz()
    empty = limits_hz[:-1] + limits_hz[1:] >= rate_hz
    if expected_db is not None:
        first = int(np.argmax(empty))
        if first > SIDE and _mean(expected_db[first - SIDE - 1 : first - 1]) - _mean(expected_db[empty][:SIDE]) >= MARGIN_DB:
            return 0
        empty &= expected_db > max(10.0 * math.log10(spec.floor) + _ABOVE_FLOOR_DB, float(expected_db.max()) - _BELOW_LOUDEST_DB)
    return int(np.count_nonzero(empty))


def edge_hz(samples: F32, *, sample_rate_hz: int) -> float | None:
    """The frequency above which sound (n,), full scale 1, holds nothing, because it was resampled or coded; None without one.

    At such an edge the spectrum falls by at least 25 dB within a sixth of an octave, to no more than the rounding noise of 16
    bits, and stays flat. Machines and microphones fall off over more than that, and to a higher level. About a second is enough.
    """
    n_fft = 1 << round(math.log2(sample_rate_hz / 8.0))
    n_rows = len(samples) // n_fft
    if not n_rows or n_fft < 8 * _N_RANGES:
        return None
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)
    spectrum = np.fft.rfft(samples[: n_rows * n_fft].reshape(n_rows, n_fft) * window)[:, : n_fft // 2]
    power = np.mean(spectrum.real**2 + spectrum.imag**2, axis=0) * (2.0 / (window @ window) / sample_rate_hz)
    level = 10.0 * np.log10(np.maximum(np.median(power.reshape(_N_RANGES, -1), axis=1), 1e-30))  # a tone is no sound of a range
    loudest_above = np.maximum.accumulate(level[::-1])[::-1]
    for edge in _EDGES:
        above = loudest_above[edge]
        if above > _NEARLY_NOTHING_DB or above > max(_NOTHING_DB, float(np.median(level[edge:])) + _FLAT_DB):
            continue
        if np.median(level[int(_BELOW[0] * edge) : int(_BELOW[1] * edge)]) - above >= DROP_DB:
            return edge * sample_rate_hz / 2.0 / _N_RANGES
    return None


def is_cut_off(mean_db: F32 | F64, expected_db: F32) -> bool:
    """Whether a mean frame (n_bands,), dB, has an edge above which all bands are far below the expected level.

    Levels are relative to the expected ones, so the shape of the spectrum does not matter. A quiet machine has no such
    edge: the microphone's own noise remains, and the sound fades over many bands.
    """
    excess = np.asarray(mean_db - expected_db, np.float64)
    loud = np.flatnonzero(excess > -MARGIN_DB)
    edge = int(loud[-1]) + 1 if len(loud) else 0  # index of the first quiet band above the edge
    if edge < SIDE + 1 or len(excess) - edge < MIN_BANDS:
        return False
    return _mean(excess[edge - SIDE - 1 : edge - 1]) - _mean(excess[edge + 1 : edge + 1 + SIDE]) >= MARGIN_DB


def is_cut_off_at(edge_hz: float, mean_db: F32 | F64, expected_db: F32, limits_hz: F64) -> bool:
    """The same for an edge that the samples show (`edge_hz`): a smaller difference, and a single band above, is sufficient.

    `limits_hz` (n_bands + 1,) are the band limits of the front end.
    """
    excess = np.asarray(mean_db - expected_db, np.float64)
    n_below, first_above = _around(edge_hz, limits_hz)
    if not n_below or first_above == len(excess):
        return False
    return _mean(excess[max(0, n_below - SIDE) : n_below]) - _mean(excess[first_above:]) >= EDGE_MARGIN_DB


def may_be_cut_off(mean_db: F32, expected_db: F32, spec: FrontEndSpec) -> bool:
    """Whether `is_cut_off_at` holds for any edge that `edge_hz` can find: at a tenth of the cost of a search in the samples."""
    n_below, first_below, first_above = _possible_edges(spec)
    sums = np.concatenate(([0.0], np.cumsum(mean_db - expected_db, dtype=np.float64)))
    below = (sums[n_below] - sums[first_below]) / (n_below - first_below)
    above = (sums[-1] - sums[first_above]) / (len(mean_db) - first_above)
    return bool((below - above >= EDGE_MARGIN_DB - _ROUNDING_DB).any())


@lru_cache(maxsize=8)
def _possible_edges(spec: FrontEndSpec) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """For each edge with bands on either side: the number of bands below, the first of them that counts, the first above."""
    limits_hz = spec.band_limits_hz()
    pairs = (_around(edge * spec.sample_rate_hz / 2.0 / _N_RANGES, limits_hz) for edge in _EDGES)
    n_below, first_above = np.array([pair for pair in pairs if pair[0] and pair[1] < spec.n_bands], np.intp).reshape(-1, 2).T
    return n_below, np.maximum(0, n_below - SIDE), first_above


def _around(edge_hz: float, limits_hz: F64) -> tuple[int, int]:
    """The number of bands well below an edge, and the first band above it."""
    return int(np.searchsorted(limits_hz[1:], _BELOW[1] * edge_hz)), int(np.searchsorted(limits_hz[:-1], edge_hz))


def _mean(levels_db: F32 | F64) -> float:
    return float(levels_db.mean())
