"""Compare two evaluations of the same clips: which bundle separates better, and which is right more often at its threshold."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from monitor.arrays import F32, F64, Bool
from train.evaluation.metrics import CONFIDENCE, RESAMPLES, Interval


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two bundles, A and B, on the same clips.

    `areas` are the AUC of A and of B, and `interval` is the paired bootstrap interval of B - A; None without both kinds of
    clips. `only_a` and `only_b` count clips about which only one was right, and `chance` is the probability of so uneven a
    count among equals (McNemar's exact test).
    """

    n_normal: int
    n_anomaly: int
    areas: tuple[float, float] | None
    interval: Interval | None
    only_a: int
    only_b: int
    chance: float


def compare_paired(anomaly: Bool, a: tuple[F64, Bool], b: tuple[F64, Bool]) -> Paired:
    """Compare scores (n,) and verdicts (n,) of two bundles on the same clips, of which `anomaly` (n,) are anomalous."""
    (scores_a, called_a), (scores_b, called_b) = a, b
    right_a, right_b = called_a == anomaly, called_b == anomaly
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    areas, interval = None, None
    if anomaly.any() and not anomaly.all():
        wins = [_wins(scores[anomaly], scores[~anomaly]) for scores in (scores_a, scores_b)]
        areas = (float(wins[0].mean()), float(wins[1].mean()))
        interval = _bootstrap(wins[1] - wins[0])
    return Paired(
        n_normal=int(np.sum(~anomaly)),
        n_anomaly=int(np.sum(anomaly)),
        areas=areas,
        interval=interval,
        only_a=only_a,
        only_b=only_b,
        chance=float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0,
    )


def _wins(anomalous: F64, normal: F64) -> F32:
    """Whether each anomalous clip scores above each normal one (n, m), half where equal; the mean is the AUC."""
    above, equal = (compare.outer(anomalous, normal) for compare in (np.greater, np.equal))
    return np.asarray(above + 0.5 * equal, np.float32)


def _bootstrap(gains: F32) -> Interval:
    """The interval of the mean of gains (n, m), with both kinds of clips resampled separately."""
    rng = np.random.default_rng(0)
    drawn = [rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in gains.shape]
    means = np.sum(drawn[0] @ gains * drawn[1], axis=1)
    low, high = np.quantile(means, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Interval(float(low), float(high))
