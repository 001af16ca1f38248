"""Signal quality: whether the sound of a tick may be scored."""

from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32

SILENT_DBFS = -90.0  # less than the last bit of a 16-bit converter
FULL_SCALE = 0.999
CLIPPED_FRACTION = 0.01
ZERO_FRACTION = 0.5
ZERO_RUN_S = 0.01  # run of exact zeros: converters do not produce one, drivers insert it for missing samples
SMALL_DC = 1e-3


@dataclass(frozen=True)
class Quality:
    """The quality of the samples of one tick. `reason` is why they may not be scored, or None."""

    rms_dbfs: float  # without the mean, relative to full scale 1.0
    peak: float
    dc: float  # mean
    clipped_fraction: float
    zero_fraction: float  # exact zeros
    reason: str | None


def measure_quality(samples: F32, *, sample_rate_hz: int, idle_below_dbfs: float | None = None) -> Quality:
    """Measure samples (n,) at this rate. Below `idle_below_dbfs`, if given, the machine counts as off (`idle`)."""
    n, min_zeros = len(samples), round(ZERO_RUN_S * sample_rate_hz)
    low, high = float(samples.min()), float(samples.max())
    peak = max(-low, high)
    dc = float(np.add.reduce(samples)) / n
    moving = samples - np.float32(dc)
    rms_dbfs = 10.0 * float(np.log10(max(float(np.dot(moving, moving)) / n, 1e-20)))
    clipped = np.count_nonzero(np.abs(samples) >= FULL_SCALE) / n if peak >= FULL_SCALE else 0.0
    n_zeros = int(np.count_nonzero(samples == 0.0))
    zeros = n_zeros / n
    reason = None
    if zeros > ZERO_FRACTION:
        reason = "silent"
    elif rms_dbfs < SILENT_DBFS:
        reason = "silent" if abs(dc) < SMALL_DC else "flat_line"
    elif n_zeros >= min_zeros and _longest_zero_run(samples) >= min_zeros:
        reason = "gap"
    elif clipped > CLIPPED_FRACTION:
        reason = "clipped"
    elif idle_below_dbfs is not None and rms_dbfs < idle_below_dbfs:
        reason = "idle"
    return Quality(rms_dbfs, peak, dc, clipped, zeros, reason)


def _longest_zero_run(samples: F32) -> int:
    """The length of the longest run of exact zeros."""
    sounding = np.flatnonzero(samples)
    return int(np.diff(sounding, prepend=-1, append=len(samples)).max()) - 1
