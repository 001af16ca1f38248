"""Bandwidth check: detect sound that lacks the bundle's upper bands because its sample rate is too low or it was resampled."""

import math

import numpy as np

from monitor.arrays import F32, F64
from monitor.scoring.front_end import FrontEndSpec

# Minimum drop across the edge and below the expected level. A machine that is merely quieter does not fall off so steeply.
MARGIN_DB = 15.0
SIDE = 3  # bands averaged on either side of an edge, which is up to two bands wide
MIN_BANDS = 4  # required above the edge, because the end of a whistle affects fewer
_BELOW_LOUDEST_DB = 100.0  # a band this far below the loudest one is expected to be empty
_ABOVE_FLOOR_DB = 6.0  # a band less than this above the floor is expected to be empty


def empty_bands(rate_hz: int, spec: FrontEndSpec, expected_db: F32 | None = None) -> int:
    """The number of bands above half the sample rate. With `expected_db`, only those in which sound is expected."""
    empty = spec.band_limits_hz()[:-1] >= rate_hz / 2
    if expected_db is not None:
        empty &= expected_db > max(10.0 * math.log10(spec.floor) + _ABOVE_FLOOR_DB, float(expected_db.max()) - _BELOW_LOUDEST_DB)
    return int(np.count_nonzero(empty))


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
    below, above = excess[edge - SIDE - 1 : edge - 1].mean(), excess[edge + 1 : edge + 1 + SIDE].mean()
    return bool(below - above >= MARGIN_DB)
