"""Metrics against small cases that were computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as peer

from train.evaluation import metrics

# normal 1 2 3, anomalous 2.5 4: of 6 pairs, 2.5 loses against 3 alone
ANOMALY = np.array([False, False, False, True, True])
SCORES = np.array([1.0, 2.0, 3.0, 2.5, 4.0])


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    assert metrics.auc(ANOMALY, SCORES) == pytest.approx(5 / 6)


def test_the_partial_area_is_standardised() -> None:
    # up to a false positive rate of .1 half of the anomalies are found: area .05, of .005 (chance) to .1 (perfect)
    assert metrics.partial_auc(ANOMALY, SCORES) == pytest.approx(0.5 * (1 + (0.05 - 0.005) / (0.1 - 0.005)))
    assert metrics.partial_auc(ANOMALY, np.where(ANOMALY, 9.0, SCORES)) == pytest.approx(1.0)


def test_average_precision_is_the_mean_over_steps_of_recall() -> None:
    assert metrics.average_precision(ANOMALY, SCORES) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), min_size=2, max_size=60))
def test_areas_and_rates_are_those_of_scikit_learn(clips: list[tuple[bool, int]]) -> None:
    anomaly, scores = np.array([one for one, _ in clips]), np.array([score / 7 for _, score in clips])
    if anomaly.any() and not anomaly.all():
        assert metrics.auc(anomaly, scores) == pytest.approx(peer.roc_auc_score(anomaly, scores), abs=1e-12)
        limited = peer.roc_auc_score(anomaly, scores, max_fpr=metrics.MAX_FPR)
        assert metrics.partial_auc(anomaly, scores) == pytest.approx(limited, abs=1e-12)
        assert metrics.average_precision(anomaly, scores) == pytest.approx(peer.average_precision_score(anomaly, scores))
    if anomaly.any():
        at = metrics.verdicts(anomaly, scores, threshold=2.0)
        rates = peer.precision_recall_fscore_support(anomaly, scores >= 2.0, labels=[True], zero_division=np.nan)[:3]
        assert [np.nan if one is None else one for one in (at.precision, at.recall, at.f1)] == pytest.approx(
            [float(one[0]) for one in rates], nan_ok=True
        )


def test_verdicts_count_a_score_at_the_threshold_as_anomalous() -> None:
    at = metrics.verdicts(ANOMALY, SCORES, threshold=2.5)
    assert (at.true_positives, at.false_positives, at.true_negatives, at.false_negatives) == (2, 1, 2, 0)
    assert (at.precision, at.recall, at.f1, at.accuracy) == pytest.approx((2 / 3, 1.0, 0.8, 0.8))
    assert at.false_alarm_rate == pytest.approx(1 / 3)


def test_nothing_called_anomalous_has_no_precision() -> None:
    at = metrics.verdicts(ANOMALY, SCORES, threshold=9.0)
    assert at.precision is None
    assert (at.recall, at.f1, at.accuracy) == pytest.approx((0.0, 0.0, 0.6))


def test_normal_clips_alone_have_a_false_alarm_rate_and_no_areas() -> None:
    normal, scores = ANOMALY[:3], SCORES[:3]
    assert metrics.auc(normal, scores) is None
    assert metrics.partial_auc(normal, scores) is None
    assert metrics.average_precision(normal, scores) is None
    assert metrics.bootstrap(metrics.auc, normal, scores) is None
    at = metrics.verdicts(normal, scores, threshold=2.5)
    assert (at.precision, at.recall, at.f1) == (None, None, None)
    assert at.false_alarm_rate == pytest.approx(1 / 3)


def test_the_sweep_goes_from_all_to_none() -> None:
    swept = metrics.sweep(ANOMALY, SCORES)
    assert [at.threshold for at in swept[:-1]] == [1.0, 2.0, 2.5, 3.0, 4.0]
    assert [at.false_positives for at in swept] == [3, 2, 1, 1, 0, 0]
    assert [at.false_negatives for at in swept] == [0, 0, 0, 1, 1, 2]


def test_the_best_compromise_has_as_many_misses_as_false_alarms() -> None:
    swept = metrics.sweep(ANOMALY, SCORES)
    best = metrics.best_compromise(swept)
    assert (best.threshold, best.false_positives, best.false_negatives) == (3.0, 1, 1)
    assert metrics.best_f1(swept).threshold == 2.5


def test_a_long_sweep_is_thinned_and_keeps_its_ends() -> None:
    scores = np.linspace(0.0, 1.0, 600)
    swept = metrics.sweep(scores > 0.5, scores)
    assert len(swept) == metrics.MAX_THRESHOLDS + 1
    assert (swept[0].threshold, swept[-2].threshold) == (0.0, 1.0)


def test_the_bootstrap_repeats_and_holds_the_area() -> None:
    rng = np.random.default_rng(3)
    anomaly = np.repeat([False, True], 40)
    scores = rng.standard_normal(80) + anomaly
    one, two = (metrics.bootstrap(metrics.auc, anomaly, scores, n_resamples=100) for _ in range(2))
    area = metrics.auc(anomaly, scores)
    assert one is not None
    assert one == two
    assert area is not None
    assert one.low < area < one.high


def test_no_false_alarm_in_ten_clips_only_bounds_the_rate() -> None:
    interval = metrics.rate_interval(0, 10)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.0, 1 - 0.025 ** (1 / 10)))
    assert metrics.rate_interval(0, 0) is None


def test_the_harmonic_mean_is_that_of_dcase() -> None:
    assert metrics.harmonic_mean([0.5, 1.0]) == pytest.approx(2 / 3)
    assert metrics.harmonic_mean([]) is None


def test_rank_correlation_needs_ranks() -> None:
    assert metrics.rank_correlation(np.array([1.0, 2, 3]), np.array([1.0, 4, 9])) == pytest.approx(1.0)
    assert metrics.rank_correlation(np.array([1.0, 2, 3]), np.ones(3)) is None
    assert metrics.rank_correlation(np.ones(2), np.ones(2)) is None
