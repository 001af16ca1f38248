"""Calibration: from the scores of normal segments to a threshold."""

import numpy as np

from monitor.core.arrays import F64
from monitor.core.errors import ConfigError


def mean_sigma_threshold(scores: F64, *, k: float) -> float:
    """Mean plus k standard deviations (n - 1 in the divisor) of scores (n,), n at least 2."""
    if len(scores) < 2:
        raise ConfigError(f"a threshold of mean + {k:g} sigma needs at least 2 scores, got {len(scores)}")
    return float(np.mean(scores) + k * np.std(scores, ddof=1))
