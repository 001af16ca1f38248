"""Signal quality: is there sound in this tick that may be scored at all?"""

from dataclasses import dataclass

import numpy as np

from monitor.core.arrays import F32

SILENT_DBFS = -90.0  # below the last bit of a 16-bit converter
FULL_SCALE = 0.999
CLIPPED_FRACTION = 0.01
ZERO_FRACTION = 0.5
LOUD_DBFS, LOUD_ZERO_FRACTION = -70.0, 0.05  # 16-bit noise at that level is exactly zero in 4 % of its samples


@dataclass(frozen=True)
class Quality:
    """What the samples of one tick are like; `reason` is why they may not be scored, None when they may."""

    rms_dbfs: float  # against full scale 1.0
    peak: float
    dc: float  # their mean
    clipped_fraction: float
    zero_fraction: float  # exact zeros
    reason: str | None


def measure_quality(samples: F32, *, idle_below_dbfs: float | None = None) -> Quality:
    """Measure samples (n,); below `idle_below_dbfs` the machine is off (`idle`), where that level is known."""
    n = len(samples)
    low, high = float(samples.min()), float(samples.max())
    peak = max(-low, high)
    mean_square = float(np.dot(samples, samples)) / n
    rms_dbfs = 10.0 * float(np.log10(max(mean_square, 1e-20)))
    clipped = np.count_nonzero(np.abs(samples) >= FULL_SCALE) / n if peak >= FULL_SCALE else 0.0
    zeros = np.count_nonzero(samples == 0.0) / n
    reason = None
    if rms_dbfs < SILENT_DBFS or zeros > ZERO_FRACTION:
        reason = "silent"
    elif rms_dbfs > LOUD_DBFS and zeros > LOUD_ZERO_FRACTION:
        reason = "gap"  # zeros where samples never arrived
    elif low == high:
        reason = "flat_line"
    elif clipped > CLIPPED_FRACTION:
        reason = "clipped"
    elif idle_below_dbfs is not None and rms_dbfs < idle_below_dbfs:
        reason = "idle"
    return Quality(rms_dbfs, peak, float(samples.mean()), clipped, zeros, reason)
