"""Where in frequency a segment differs from what was expected, as a few bands and one sentence."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from monitor.core.arrays import F32, F64

MIN_EXCESS_DB = 2.0
MIN_SPREADS = 4.0
MAX_BANDS = 5


@dataclass(frozen=True)
class Expected:
    """The normal spectrum: mean (n_bands,), dB, of normal segments' mean frames, and their standard deviation, dB."""

    mean_db: F32
    spread_db: F32


@dataclass(frozen=True)
class Band:
    """A run of neighbouring bands that all exceed (or all miss) what was expected; the largest excess of them."""

    low_hz: float
    high_hz: float
    excess_db: float


def differing_bands(mean_frame: F64, expected: Expected, limits_hz: F64) -> tuple[Band, ...]:
    """The bands of a mean frame (n_bands,), dB, that differ clearly, largest first, at most five.

    `limits_hz` (n_bands + 1,) are the front end's.
    """
    excess = mean_frame - expected.mean_db
    clear = np.abs(excess) >= np.maximum(MIN_EXCESS_DB, MIN_SPREADS * expected.spread_db)
    sign = np.where(clear, np.sign(excess), 0.0)
    bands = []
    for key, run in groupby(range(len(sign)), key=lambda i: float(sign[i])):
        members = list(run)
        if key:
            peak = max(members, key=lambda i: float(abs(excess[i])))
            bands.append(_band(limits_hz[members[0]], limits_hz[members[-1] + 1], excess[peak]))
    return tuple(sorted(bands, key=lambda band: -abs(band.excess_db))[:MAX_BANDS])


def _band(low_hz: float, high_hz: float, excess_db: float) -> Band:
    return Band(round(float(low_hz), 1), round(float(high_hz), 1), round(float(excess_db), 1))


def summarise(bands: tuple[Band, ...]) -> str:
    """One sentence for a person."""
    if not bands:
        return "sounds different, with no single band standing out"
    return "; ".join(_phrase(band) for band in bands[:2])


def _phrase(band: Band) -> str:
    more = "more" if band.excess_db > 0 else "less"
    if band.high_hz < 1000.0:
        where = f"{band.low_hz:.0f}-{band.high_hz:.0f} Hz"
    else:
        where = f"{band.low_hz / 1000:.1f}-{band.high_hz / 1000:.1f} kHz"
    return f"{abs(band.excess_db):.0f} dB {more} than usual at {where}"
