"""Signal quality: is there sound in this tick that may be scored at all?"""

from dataclasses import dataclass

import numpy as np

from monitor.core.arrays import F32

SILENT_DBFS = -90.0  # below the last bit of a 16-bit converter
FULL_SCALE = 0.999
CLIPPED_FRACTION = 0.01
ZERO_FRACTION = 0.5


@dataclass(frozen=True)
class Quality:
    """What the samples of one tick are like; `reason` is why they may not be scored, None when they may."""

    rms_dbfs: float
    peak: float
    reason: str | None


def measure_quality(samples: F32) -> Quality:
    """Level (RMS against full scale 1.0), peak and verdict of samples (n,)."""
    low, high = float(samples.min()), float(samples.max())
    peak = max(-low, high)
    mean_square = float(np.dot(samples, samples)) / len(samples)
    rms_dbfs = 10.0 * float(np.log10(max(mean_square, 1e-20)))
    return Quality(rms_dbfs, peak, _reason(samples, low=low, high=high, rms_dbfs=rms_dbfs))


def _reason(samples: F32, *, low: float, high: float, rms_dbfs: float) -> str | None:
    if rms_dbfs < SILENT_DBFS or np.count_nonzero(samples == 0.0) > ZERO_FRACTION * len(samples):
        return "silent"
    if low == high:
        return "flat_line"
    if max(-low, high) >= FULL_SCALE and np.count_nonzero(np.abs(samples) >= FULL_SCALE) > CLIPPED_FRACTION * len(samples):
        return "clipped"
    return None
