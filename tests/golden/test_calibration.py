import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng
from scipy import stats
from sklearn.covariance import LedoitWolf

from monitor.errors import ConfigError
from monitor.events.decision import Rule, RuleState, decide
from monitor.learning.methods import (
    block_maxima,
    blocks,
    conformal_needs,
    conformal_rank,
    conformal_threshold,
    mean_sigma_threshold,
    percentile_threshold,
    sustained,
)
from monitor.scoring.components.normal import ledoit_wolf

SCORES = st.lists(st.sampled_from([0.5, 0.9, 1.0, 1.1, 2.0, 3.0]), max_size=60)


def test_mean_plus_k_sigma() -> None:
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    assert mean_sigma_threshold(scores, k=2) == pytest.approx(2.5 + 2 * np.sqrt(5 / 3))


def test_one_score_is_not_enough() -> None:
    with pytest.raises(ConfigError, match=r"mean \+ 4 sigma needs at least 2 scores, got 1"):
        mean_sigma_threshold(np.array([1.0]), k=4)


@pytest.mark.parametrize("percentile", [0.1, 50.0, 95.0, 99.9])
def test_a_percentile_is_scipys(percentile: float) -> None:
    scores = default_rng(0).gamma(4, 1, 777)
    ours = percentile_threshold(scores, percentile=percentile)
    assert ours == pytest.approx(stats.scoreatpercentile(scores, percentile), rel=1e-9)


@pytest.mark.parametrize(
    ("n", "a", "rank"), [(99, 0.01, 99), (98, 0.01, 99), (1000, 0.01, 991), (999, 0.001, 999), (19, 0.05, 19), (9, 0.5, 5)]
)
def test_the_conformal_rank_is_exact(n: int, a: float, rank: int) -> None:
    assert conformal_rank(n, false_alarm=a) == rank


@given(st.integers(2, 2000))
def test_there_is_a_conformal_threshold_from_one_over_a_minus_one_scores_on(inverse: int) -> None:
    needs = conformal_needs(1 / inverse)
    assert needs == max(1, inverse - 1)
    assert conformal_rank(needs, false_alarm=1 / inverse) <= needs
    assert needs == 1 or conformal_rank(needs - 1, false_alarm=1 / inverse) > needs - 1


def test_the_conformal_threshold_is_that_score() -> None:
    scores = default_rng(1).permutation(np.arange(1.0, 1001.0))
    assert conformal_threshold(scores, false_alarm=0.01) == 991.0
    assert conformal_threshold(scores, false_alarm=0.5) == np.quantile(scores, 0.5, method="higher")


def test_too_few_scores_for_a_conformal_threshold_say_how_many_it_takes() -> None:
    with pytest.raises(ConfigError, match=r"chance of 0.01 needs at least 99 scores, got 98"):
        conformal_threshold(np.arange(98.0), false_alarm=0.01)


@pytest.mark.parametrize("a", [0.0, 1.0, -0.1, float("nan")])
def test_an_impossible_false_alarm_chance_is_named(a: float) -> None:
    with pytest.raises(ConfigError, match="false_alarm must be above 0 and below 1, got"):
        conformal_threshold(np.arange(100.0), false_alarm=a)


@given(st.integers(0, 500), st.integers(1, 40))
def test_blocks_cover_everything_once_and_are_long_enough(n: int, length: int) -> None:
    cut = blocks(n, length=length)
    assert [i for block in cut for i in range(n)[block]] == list(range(n))
    sizes = [block.stop - block.start for block in cut]
    assert n == 0 or min(sizes) >= min(n, length)
    assert n == 0 or max(sizes) <= 2 * length


def test_a_block_scores_its_largest_segment() -> None:
    scores = np.array([1.0, 5.0, 2.0, 3.0, 4.0])
    assert block_maxima(scores, length=2).tolist() == [5.0, 4.0]
    assert block_maxima(scores, length=9).tolist() == [5.0]


@given(SCORES, st.integers(1, 8), st.integers(0, 6), st.sampled_from([0.7, 1.0, 1.05, 2.5]))
def test_sustained_scores_reach_a_threshold_exactly_when_the_rule_raises(
    scores: list[float], k: int, extra: int, threshold: float
) -> None:
    rule, counts, raised = Rule(raise_k=k, raise_n=k + extra), RuleState(), False
    for score in scores:
        counts = decide(rule, counts, score / threshold)
        raised = raised or counts.raised
    seen = sustained(np.array(scores), k=k, n=k + extra)
    assert len(seen) == len(scores)
    assert raised == bool((seen >= threshold).any())


def test_a_bang_in_one_segment_length_is_not_sustained() -> None:
    scores = np.ones(100)
    scores[40:50] = 20.0
    assert sustained(scores, k=12, n=20)[11:].max() == 1.0


@pytest.mark.parametrize(("n", "p"), [(5, 3), (30, 64), (200, 64), (1000, 8), (40, 1), (2, 4), (3, 128)])
def test_ledoit_wolf_is_scikit_learns(n: int, p: int) -> None:
    rng = default_rng(n + p)
    rows = rng.standard_normal((n, p)) @ rng.standard_normal((p, p)) + 30.0
    peer = LedoitWolf().fit(rows)
    covariance, shrinkage = ledoit_wolf(rows)
    np.testing.assert_allclose(covariance, peer.covariance_, rtol=1e-9, atol=1e-9)
    assert shrinkage == pytest.approx(peer.shrinkage_, rel=1e-9, abs=1e-9)


def test_ledoit_wolf_of_rows_that_never_change_is_zero() -> None:
    covariance, shrinkage = ledoit_wolf(np.full((10, 4), 7.0))
    assert (covariance == 0.0).all()
    assert shrinkage == 0.0
