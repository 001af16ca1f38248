"""Metrics of scores against labels: areas under curves, verdicts at a threshold, intervals.

Everywhere `anomaly` (n,) says which clips are anomalous, `scores` (n,) how abnormal they sound, higher = more, and a clip
whose score reaches the threshold is called anomalous. None stands for what the clips at hand cannot tell.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from monitor.arrays import F64, Bool

MAX_FPR = 0.1  # of the partial AUC, as in DCASE
CONFIDENCE = 0.95
RESAMPLES = 1000
MAX_THRESHOLDS = 400

Area = Callable[[Bool, F64], float | None]


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Counts of correct and wrong verdicts at a threshold, and the usual rates."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    precision: float | None
    recall: float | None
    f1: float | None
    accuracy: float

    @property
    def n_normal(self) -> int:
        """Normal clips."""
        return self.true_negatives + self.false_positives

    @property
    def n_anomaly(self) -> int:
        """Anomalous clips."""
        return self.true_positives + self.false_negatives

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of the normal clips with the verdict anomaly."""
        return self.false_positives / self.n_normal if self.n_normal else None


def auc(anomaly: Bool, scores: F64) -> float | None:
    """Area under the ROC curve; None unless there are clips of both kinds."""
    if not _both(anomaly):
        return None
    false, true = _roc(anomaly, scores)
    return _below(true, false)


def partial_auc(anomaly: Bool, scores: F64) -> float | None:
    """Area under the ROC curve up to a false positive rate of 0.1, standardised: 0.5 is chance, 1 perfect.

    Source: D. K. McClish, Analyzing a portion of the ROC curve, Medical Decision Making 9 (1989).
    """
    if not _both(anomaly):
        return None
    false, true = _roc(anomaly, scores)
    n = int(np.searchsorted(false, MAX_FPR, side="right"))
    last = true[n - 1] + (true[n] - true[n - 1]) * (MAX_FPR - false[n - 1]) / (false[n] - false[n - 1])
    area = _below(np.append(true[:n], last), np.append(false[:n], MAX_FPR))
    chance = MAX_FPR**2 / 2
    return 0.5 * (1.0 + (area - chance) / (MAX_FPR - chance))


def average_precision(anomaly: Bool, scores: F64) -> float | None:
    """Area under the precision-recall curve, as the mean precision over steps of recall."""
    if not _both(anomaly):
        return None
    called, true = _called(anomaly, scores)
    return float(np.diff(true) @ (true[1:] / called[1:])) / int(true[-1])


def _roc(anomaly: Bool, scores: F64) -> tuple[F64, F64]:
    """The shares (n,) of normal and of anomalous clips that are called anomalous, at falling thresholds, from 0 to 1."""
    called, true = _called(anomaly, scores)
    false = called - true
    return false / false[-1], true / true[-1]


def _below(heights: F64, at: F64) -> float:
    """Area below a line through points (n,), by trapezoids."""
    return float(np.diff(at) @ (heights[1:] + heights[:-1])) / 2.0


def _called(anomaly: Bool, scores: F64) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many clips (n,), and how many anomalous ones, reach each threshold: one above all scores, then each of them, falling.

    In NumPy, because scikit-learn's checks of its arguments take a hundred times as long, and intervals need thousands.
    """
    order = np.argsort(scores)[::-1]
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan)) + 1
    return np.append(0, ends), np.append(0, np.cumsum(anomaly[order])[ends - 1])


def bootstrap(area: Area, anomaly: Bool, scores: F64, *, n_resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """95 % percentile interval of an area; each label is resampled separately. None with fewer than 2 per label."""
    normal, abnormal = scores[~anomaly], scores[anomaly]
    if min(len(normal), len(abnormal)) < 2:
        return None

    def statistic(some_normal: F64, some_abnormal: F64) -> float:
        labels = np.repeat([False, True], (len(some_normal), len(some_abnormal)))
        value = area(labels, np.concatenate((some_normal, some_abnormal)))
        return math.nan if value is None else value

    found = stats.bootstrap(
        (normal, abnormal),
        statistic,
        vectorized=False,
        method="percentile",
        confidence_level=CONFIDENCE,
        n_resamples=n_resamples,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def rate_interval(n_hits: int, n: int) -> Interval | None:
    """95 % interval (Clopper-Pearson) of a rate of n_hits in n; None for n = 0."""
    if not n:
        return None
    found = stats.binomtest(n_hits, n).proportion_ci(CONFIDENCE, method="exact")
    return Interval(float(found.low), float(found.high))


def verdicts(anomaly: Bool, scores: F64, *, threshold: float) -> Verdicts:
    """Verdicts of this threshold on at least one clip."""
    called = scores >= threshold
    tp, fp = int(np.count_nonzero(called & anomaly)), int(np.count_nonzero(called & ~anomaly))
    fn, tn = int(np.count_nonzero(anomaly)) - tp, int(np.count_nonzero(~anomaly)) - fp
    some = tp + fn > 0  # undefined without anomalies
    return Verdicts(
        threshold=float(threshold),
        true_positives=tp,
        false_positives=fp,
        true_negatives=tn,
        false_negatives=fn,
        precision=tp / (tp + fp) if some and tp + fp else None,
        recall=tp / (tp + fn) if some else None,
        f1=2 * tp / (2 * tp + fp + fn) if some else None,
        accuracy=(tp + tn) / len(scores),
    )


def sweep(anomaly: Bool, scores: F64) -> tuple[Verdicts, ...]:
    """Verdicts at rising thresholds: every distinct score (at most 400), and one above all."""
    distinct = np.unique(scores)
    which = np.unique(np.linspace(0, len(distinct) - 1, MAX_THRESHOLDS).round().astype(np.intp))
    thresholds = [*distinct[which], np.nextafter(distinct[-1], np.inf)]
    return tuple(verdicts(anomaly, scores, threshold=float(threshold)) for threshold in thresholds)


def best_compromise(swept: Sequence[Verdicts]) -> Verdicts:
    """The verdicts with the smallest difference of false positives and false negatives, then the fewest. Uses test labels."""
    return min(swept, key=lambda at: (abs(at.false_positives - at.false_negatives), at.false_positives + at.false_negatives))


def best_f1(swept: Sequence[Verdicts]) -> Verdicts:
    """The verdicts with the highest F1. Uses test labels."""
    return max(swept, key=lambda at: -1.0 if at.f1 is None else at.f1)


def harmonic_mean(values: Sequence[float]) -> float | None:
    """DCASE's mean of areas, which a single low area reduces strongly; None without areas."""
    return float(stats.hmean(values)) if values else None


def rank_correlation(one: F64, other: F64) -> float | None:
    """Spearman's; None with fewer than 3 values or where all are equal."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(stats.spearmanr(one, other).statistic)


def _both(anomaly: Bool) -> bool:
    return bool(anomaly.any()) and not bool(anomaly.all())
