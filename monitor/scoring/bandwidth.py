"""Bandwidth: whether sound reaches as high as its bundle listens. Below a too low rate, or after resampling, it does not."""

import math

import numpy as np

from monitor.arrays import F32, F64
from monitor.scoring.front_end import FrontEndSpec

MARGIN_DB = 15.0  # under what is expected, and across the edge: no machine that is quieter falls off like that
SIDE = 3  # bands on either side of an edge, which itself takes up to two
MIN_BANDS = 4  # above the edge: a whistle that stops leaves fewer
_DUST_DB = 100.0  # under the loudest band, or
_FLOOR_DB = 6.0  # over the floor: where a bundle expects no more than that, it has learned that nothing is there


def empty_bands(rate_hz: int, spec: FrontEndSpec, expected_db: F32 | None = None) -> int:
    """How many of the bands lie wholly above half the rate; where it is known, only those in which sound is expected."""
    deaf = spec.band_limits_hz()[:-1] >= rate_hz / 2
    if expected_db is not None:
        deaf &= expected_db > max(10.0 * math.log10(spec.floor) + _FLOOR_DB, float(expected_db.max()) - _DUST_DB)
    return int(np.count_nonzero(deaf))


def is_cut_off(mean_db: F32 | F64, expected_db: F32) -> bool:
    """Whether a mean frame (n_bands,), dB, ends at an edge above which there is far less than expected, up to the last band.

    Levels count against what is expected, so that any shape of a spectrum will do. A quiet machine has no such edge: a
    microphone's own noise remains, and what is missing fades over many bands.
    """
    excess = np.asarray(mean_db - expected_db, np.float64)
    loud = np.flatnonzero(excess > -MARGIN_DB)
    edge = int(loud[-1]) + 1 if len(loud) else 0  # the first of the bands that are all quieter
    if edge < SIDE + 1 or len(excess) - edge < MIN_BANDS:
        return False
    below, above = excess[edge - SIDE - 1 : edge - 1].mean(), excess[edge + 1 : edge + 1 + SIDE].mean()
    return bool(below - above >= MARGIN_DB)
