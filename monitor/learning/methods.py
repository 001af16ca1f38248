"""Threshold methods on the scores of normal segments. They need only NumPy, so that they can run on the device."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from monitor.arrays import F64
from monitor.errors import ConfigError


def mean_sigma_threshold(scores: F64, *, k: float) -> float:
    """Mean plus k standard deviations (n - 1 in the divisor) of scores (n,), n at least 2."""
    if len(scores) < 2:
        raise ConfigError(f"a threshold of mean + {k:g} sigma needs at least 2 scores, got {len(scores)}")
    return float(np.mean(scores) + k * np.std(scores, ddof=1))


def percentile_threshold(scores: F64, *, percentile: float) -> float:
    """The value below which this percentage of the scores (n,) lies, with linear interpolation; n at least 1."""
    if not 0.0 < percentile < 100.0:
        raise ConfigError(f"percentile must be above 0 and below 100, got {percentile:g}")
    if not len(scores):
        raise ConfigError("a percentile needs at least 1 score, got 0")
    return float(np.percentile(scores, percentile))


def conformal_rank(n: int, *, false_alarm: float) -> int:
    """The rank, from 1, of the conformal threshold among n sorted scores. It is above n if there are too few scores."""
    if not 0.0 < false_alarm < 1.0:
        raise ConfigError(f"false_alarm must be above 0 and below 1, got {false_alarm:g}")
    return math.ceil((n + 1) * (1.0 - false_alarm) - 1e-9)  # rounding errors must not turn 99 into 100


def conformal_needs(false_alarm: float) -> int:
    """The minimum number of scores for which there is a conformal threshold: 1 / a - 1."""
    return max(1, math.ceil(1.0 / false_alarm - 1.0 - 1e-9))


def conformal_threshold(scores: F64, *, false_alarm: float) -> float:
    """The ceil((n + 1)(1 - a))-th smallest of scores (n,). The next score is above it with a probability of at most a.

    This holds for any distribution of exchangeable scores. Scores of overlapping segments are not exchangeable, so pass
    block maxima. Realised chances follow Beta(n + 1 - rank, rank). Vovk, Gammerman and Shafer, Algorithmic
    Learning in a Random World (2005); Angelopoulos and Bates, https://arxiv.org/abs/2107.07511, section 3.
    """
    rank = conformal_rank(len(scores), false_alarm=false_alarm)
    if rank > len(scores):
        raise ConfigError(
            f"a false alarm chance of {false_alarm:g} needs at least {conformal_needs(false_alarm)} scores, got {len(scores)}"
        )
    return float(np.partition(scores, rank - 1)[rank - 1])


def blocks(n: int, *, length: int) -> tuple[slice, ...]:
    """Cut a recording's n segments into blocks of at least `length` consecutive ones, as equal in length as possible.

    Neighbouring segments overlap in all but one tick. Blocks that are at least as long as a segment overlap little and
    count as independent. A recording too short for two blocks is one block.
    """
    if length < 1:
        raise ConfigError(f"length of a block must be at least 1, got {length}")
    return equal_blocks(n, n_blocks=max(1, n // length)) if n else ()


def equal_blocks(n: int, *, n_blocks: int) -> tuple[slice, ...]:
    """Cut n consecutive items into contiguous blocks, as equal in size as possible."""
    return tuple(slice(i * n // n_blocks, (i + 1) * n // n_blocks) for i in range(n_blocks))


def block_maxima(scores: F64, *, length: int) -> F64:
    """The largest of the scores (n,) in each block."""
    return np.array([scores[block].max() for block in blocks(len(scores), length=length)], np.float64)


def sustained(scores: F64, *, k: int, n: int) -> F64:
    """The k-th largest of the last n scores, after each score (m,); -inf while there are fewer than k.

    It is the highest threshold at which a rule of k of n raises an event at that point. A value at or above t is a false event
    at threshold t. A single bang that affects fewer than k segments does not change it.
    """
    if not 1 <= k <= n:
        raise ConfigError(f"k must be in 1..n ({n}), got {k}")
    if not len(scores):
        return np.empty(0)
    padded = np.concatenate((np.full(n - 1, -np.inf), scores))
    return np.asarray(np.partition(sliding_window_view(padded, n), n - k, axis=1)[:, n - k])
