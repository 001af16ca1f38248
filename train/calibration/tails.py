"""Tails of distributions (SciPy): a gamma fit, and peaks over threshold. None where a fit is not possible."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from monitor.arrays import F64

MIN_EXCESSES = 5
MIN_PEAKS = 10  # blocks above the 95 % level, for a fit of the shape
MAX_SHAPE = 0.25


def gamma_quantile(scores: F64, *, false_alarm: float) -> float | None:
    """The score above which a gamma distribution fitted to scores (n,), from 0, has this chance."""
    if len(scores) < 3 or scores.min() <= 0.0 or np.ptp(scores) <= 1e-9 * scores.max():
        return None
    unit = float(scores.mean())
    with np.errstate(all="ignore"):
        try:
            shape, _, scale = stats.gamma.fit(scores / unit, floc=0)
        except (RuntimeError, ValueError):
            return None
        found = unit * float(stats.gamma.isf(false_alarm, shape, scale=scale))
    return found if math.isfinite(found) and found > 0.0 else None


@dataclass(frozen=True)
class Tail:
    """Excess over a level: generalised Pareto with this shape and scale; `chance` that a block peaks above the level."""

    level: float
    shape: float
    scale: float
    chance: float

    def threshold(self, chance: float) -> float:
        """The level that a block's peak exceeds with this chance (Coles, Statistical Modeling of Extreme Values, 4.3)."""
        times = max(1.0, self.chance / chance)
        grown = math.log(times) if self.shape < 1e-6 else (times**self.shape - 1.0) / self.shape
        return self.level + self.scale * grown


def fit_tail(values: F64, peaks: F64) -> Tail | None:
    """Peaks over threshold: the excess of values (n,) over their 95 % level, how often from blocks' peaks (m,).

    All excesses are fitted, not the clusters' peaks alone, which a fit on few blocks cannot bear (Fawcett and Walshaw,
    Improved estimation for temporally clustered extremes, Environmetrics 18, 2007). The shape is kept in 0..0.25: from
    an hour of sound fits often see a bounded tail that is not there, and promise too much, or one so heavy that
    extrapolating by a factor of thousands makes the detector deaf. With fewer than 10 blocks above, the level is the
    90 % one and the shape 0.
    """
    found = _excess(values, peaks, percentile=95.0)
    if found is not None and np.count_nonzero(peaks > found[0]) >= MIN_PEAKS:
        level, excess = found
        shape, scale = _generalised_pareto(excess)
        return Tail(level, shape, scale, float(np.mean(peaks > level)))
    found = _excess(values, peaks, percentile=90.0)
    if found is None:
        return None
    level, excess = found
    return Tail(level, 0.0, float(excess.mean()), float(np.mean(peaks > level)))


def _excess(values: F64, peaks: F64, *, percentile: float) -> tuple[float, F64] | None:
    """A level and the excesses over it; None where there are too few."""
    if not len(values) or not len(peaks):
        return None
    level = float(np.percentile(values, percentile))
    excess = values[values > level] - level
    enough = len(excess) >= MIN_EXCESSES and excess.mean() > 1e-9 * abs(level) and (peaks > level).any()
    return (level, excess) if enough else None


def _generalised_pareto(excess: F64) -> tuple[float, float]:
    """Shape and scale; an exponential tail where the fit fails or finds a bounded one."""
    unit = float(excess.mean())
    with np.errstate(all="ignore"):
        try:
            shape, _, scale = stats.genpareto.fit(excess / unit, floc=0)
            if shape > MAX_SHAPE:
                shape, _, scale = stats.genpareto.fit(excess / unit, f0=MAX_SHAPE, floc=0)
        except (RuntimeError, ValueError):
            return 0.0, unit
    usable = math.isfinite(shape) and math.isfinite(scale) and shape > 0.0 and scale > 0.0
    return (float(shape), unit * float(scale)) if usable else (0.0, unit)
