"""A threshold is a predictive quantile: a further normal recording exceeds it with the chance that was asked for."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitor.arrays import F64
from monitor.errors import ConfigError
from monitor.learning.predictive import Prior, ScoreModel, fit_score_model, student_t_quantile
from monitor.learning.thresholds import ERROR_PRIOR, FUSED_PRIOR

CHANCES = (0.3, 0.05, 0.03, 0.005, 1e-3, 1e-4)


def log_normal(n: int, *, seed: int = 0, spread: float = 0.4, typical: float = 1.0) -> F64:
    return typical * np.exp(np.random.default_rng(seed).normal(0.0, spread, n))


def fitted(scores: F64, *, prior: Prior = FUSED_PRIOR, drift: float = 0.0) -> ScoreModel:
    return fit_score_model(scores, n_learned=len(scores), prior=prior, drift=drift)


@pytest.mark.parametrize("degrees", [10, 11, 20, 31, 47, 139, 1000])
@pytest.mark.parametrize("chance", CHANCES)
def test_the_quantile_is_scipys(degrees: int, chance: float) -> None:
    assert student_t_quantile(chance, degrees) == pytest.approx(stats.t.isf(chance, degrees), rel=1e-3)


def test_the_median_is_the_middle() -> None:
    assert student_t_quantile(0.5, 10) == 0.0


@pytest.mark.parametrize("prior", [FUSED_PRIOR, ERROR_PRIOR])
@pytest.mark.parametrize("n", [2, 6, 28, 120])
def test_the_threshold_is_the_predictive_quantile_of_the_shrunk_spread(prior: Prior, n: int) -> None:
    scores = log_normal(n, typical=7.0)
    logs, degrees = np.log(scores), min(10, prior.weight + n - 1)
    prior_log = math.log(prior.limit + prior.per_recording / n)
    log_spread = (prior.weight * prior_log + (n - 1) * math.log(logs.std(ddof=1))) / (prior.weight + n - 1)
    for chance in (0.03, 0.005):
        expected = math.exp(stats.t.isf(chance, degrees, loc=logs.mean(), scale=math.exp(log_spread) * math.sqrt(1 + 1 / n)))
        assert fitted(scores, prior=prior).threshold(chance) == pytest.approx(expected, rel=0.01 if degrees < 10 else 1e-3)


@given(st.lists(st.floats(0.05, 50.0), min_size=2, max_size=40))
def test_a_smaller_chance_is_a_higher_threshold(scores: list[float]) -> None:
    found = [fitted(np.array(scores)).threshold(chance) for chance in CHANCES]
    assert all(low < high for low, high in pairwise(found))


def test_more_recordings_of_the_same_spread_lower_the_threshold() -> None:
    """Scores that have the same mean and variance of their logarithms, those of the prior's limit, whatever their number."""
    found = []
    for n in (6, 12, 28, 60, 120, 1000):
        logs = stats.norm.ppf((np.arange(n) + 0.5) / n)
        found.append(fitted(np.exp(FUSED_PRIOR.limit * (logs - logs.mean()) / logs.std(ddof=1))).threshold(0.005))
    assert all(few > many for few, many in pairwise(found))
    assert found[-1] == pytest.approx(math.exp(FUSED_PRIOR.limit * stats.t.isf(0.005, 10)), rel=0.02)  # known, in the limit


def test_the_spread_goes_from_the_priors_to_the_scores_own() -> None:
    """A steady machine is trusted the more, the more recordings there are."""
    spreads = [fitted(log_normal(n, spread=0.05)).spread for n in (3, 30, 300, 3000)]
    assert spreads[0] == pytest.approx(FUSED_PRIOR.spread(3), rel=0.4)
    assert spreads[-1] == pytest.approx(0.05, rel=0.1)
    assert spreads == sorted(spreads, reverse=True)


@pytest.mark.parametrize("n", [3, 6, 12, 28])
@pytest.mark.parametrize("chance", [0.03, 0.005])
def test_normal_recordings_exceed_it_at_most_as_often_as_was_asked_for(n: int, chance: float) -> None:
    """Machines whose spread scatters around the prior's as that of 15 scores does, with the tails of Student's t."""
    rng = np.random.default_rng(n)
    realised = []
    for _ in range(4000):
        spread = FUSED_PRIOR.spread(n) * math.sqrt(rng.chisquare(FUSED_PRIOR.weight) / FUSED_PRIOR.weight)
        threshold = fitted(np.exp(stats.t.rvs(10, loc=1.0, scale=spread, size=n, random_state=rng))).threshold(chance)
        realised.append(stats.t.sf((math.log(threshold) - 1.0) / spread, 10))
    assert chance / 2 < np.mean(realised) < 1.3 * chance


def test_a_very_steady_machine_is_recognised_from_28_recordings() -> None:
    """A fifth of the prior's spread: averaging variances would give more than half of the prior's."""
    scores = log_normal(28, spread=0.2 * FUSED_PRIOR.spread(28))
    assert fitted(scores).spread < 0.4 * FUSED_PRIOR.spread(28)


def test_a_prior_that_is_too_wide_costs_detections_and_never_false_alarms() -> None:
    rng = np.random.default_rng(0)
    realised = [stats.norm.sf(math.log(fitted(np.exp(rng.normal(0.0, 0.1, 12))).threshold(0.03)) / 0.1) for _ in range(200)]
    assert max(realised) < 0.03


@given(st.floats(1e-6, 1e6))
def test_the_unit_of_the_scores_does_not_matter(unit: float) -> None:
    scores = log_normal(12)
    for chance in CHANCES:
        assert fitted(unit * scores).threshold(chance) == pytest.approx(unit * fitted(scores).threshold(chance), rel=1e-9)


def test_drift_shifts_every_level_alike() -> None:
    scores = log_normal(12)
    for chance in CHANCES:
        times = fitted(scores, drift=0.3).threshold(chance) / fitted(scores).threshold(chance)
        assert times == pytest.approx(math.exp(0.3))


def test_the_prior_counts_what_was_learned_and_not_what_was_scored() -> None:
    scores = log_normal(5)
    few, many = (fit_score_model(scores, n_learned=n, prior=FUSED_PRIOR).threshold(0.005) for n in (5, 100))
    assert few > 1.3 * many
    heavy = fit_score_model(scores, n_learned=5, prior=replace(FUSED_PRIOR, weight=10_000)).spread
    assert heavy == pytest.approx(FUSED_PRIOR.spread(5), rel=0.01)


@pytest.mark.parametrize("scores", [np.full(8, 2.5), np.array([2.5, 2.5])])
def test_scores_that_are_all_alike_have_the_priors_spread(scores: F64) -> None:
    assert 2.5 < fitted(scores).threshold(0.03) < math.inf


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], "a score distribution needs at least 2 scores, got 1"),
        ([], "a score distribution needs at least 2 scores, got 0"),
        ([1.0, 0.0], "scores must be above 0 to take logarithms, got 0"),
        ([1.0, -2.5], "scores must be above 0 to take logarithms, got -2.5"),
    ],
)
def test_too_few_scores_and_scores_without_a_logarithm_are_refused(scores: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fitted(np.array(scores))


@pytest.mark.parametrize("chance", [0.0, 1e-7, 0.51, 1.0, math.nan])
def test_a_chance_beyond_what_can_be_computed_is_refused(chance: float) -> None:
    with pytest.raises(ConfigError, match=r"a chance must be in 1e-06\.\.0\.5, got"):
        student_t_quantile(chance, 20)


def test_too_few_degrees_of_freedom_are_refused() -> None:
    with pytest.raises(ConfigError, match="degrees of freedom must be at least 5, got 4"):
        student_t_quantile(0.01, 4)
