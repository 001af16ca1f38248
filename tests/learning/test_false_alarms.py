"""Blocks of time and rates of false alarms, in numbers that can be checked by hand."""

import numpy as np
import pytest

from monitor.errors import ConfigError
from monitor.events.decision import Rule
from monitor.learning.false_alarms import NormalScores, poisson_bound
from monitor.learning.methods import (
    block_maxima,
    blocks,
    conformal_needs,
    conformal_rank,
    conformal_threshold,
    equal_blocks,
    mean_sigma_threshold,
    percentile_threshold,
    sustained,
)


def normal(*lengths: int, segment_ticks: int = 10) -> NormalScores:
    """Sequences that count up from 1; 2 of 3 segments raise an event, and a tick lasts 36 s."""
    rule = Rule(raise_k=2, raise_n=3, clear_m=2)
    sequences = tuple(np.arange(1.0, 1.0 + n) for n in lengths)
    return NormalScores(sequences=sequences, rule=rule, segment_ticks=segment_ticks, tick_s=36.0)


def test_a_block_is_a_segment_or_the_span_of_the_rule() -> None:
    assert normal(40).block_length == 10
    assert normal(40, segment_ticks=2).block_length == 3


def test_blocks_have_a_length_and_a_rate() -> None:
    found = normal(25, 20)
    assert found.block_peaks.tolist() == [12.0, 25.0, 10.0, 20.0]
    assert found.block_s == pytest.approx(11.25 * 36.0)
    assert found.blocks_per_week == pytest.approx(168 * 3600 / (11.25 * 36.0))
    assert found.supported_per_week == pytest.approx(168 * 3600 / (11.25 * 36.0) / 5)
    assert normal(1, 1).block_s == 360.0  # a segment has its own length


def test_recordings_shorter_than_the_rule_are_not_replayed() -> None:
    found = normal(2, 3, 97)
    assert [len(one) for one in found.replayable] == [3, 97]
    assert found.replayed_hours == pytest.approx(1.0)
    assert found.bound_95_per_week(0) == pytest.approx(2.99573 * 168, rel=1e-5)
    assert normal(2).bound_95_per_week(0) is None


def test_the_rule_shows_where_half_of_the_segments_can_be_replayed() -> None:
    assert normal(2, 2, 4).shows_rule
    assert not normal(2, 2, 3).shows_rule


def test_the_tail_is_that_of_sustained_scores_or_of_segments() -> None:
    values, peaks = normal(4, segment_ticks=2).tail
    assert values.tolist() == [1.0, 2.0, 3.0]
    assert peaks.tolist() == [3.0]
    values, peaks = normal(2, 1).tail
    assert values.tolist() == [1.0, 2.0, 1.0]
    assert peaks.tolist() == [2.0, 1.0]


def test_events_are_counted_over_recordings_that_can_be_replayed() -> None:
    found = normal(9, 2, 5)
    assert found.events(4.0, found.rule) == 2
    assert found.events(5.0, found.rule) == 1
    assert found.events(9.0, found.rule) == 0


@pytest.mark.parametrize(("events", "bound"), [(0, 2.995732), (1, 4.743865), (2, 6.295794), (10, 16.962219)])
def test_the_poisson_bound_is_that_of_the_tables(events: int, bound: float) -> None:
    assert poisson_bound(events) == pytest.approx(bound, abs=1e-6)


def test_the_confidence_of_the_bound_can_be_chosen() -> None:
    assert poisson_bound(0, confidence=0.5) == pytest.approx(np.log(2.0))


def test_mean_and_sigma_have_n_minus_1_in_the_divisor() -> None:
    assert mean_sigma_threshold(np.array([1.0, 3.0]), k=2.0) == pytest.approx(2.0 + 2.0 * np.sqrt(2.0))
    with pytest.raises(ConfigError, match=r"mean \+ 2 sigma needs at least 2 scores, got 1"):
        mean_sigma_threshold(np.array([1.0]), k=2.0)


@pytest.mark.parametrize("percentile", [0.0, 100.0, -1.0])
def test_a_percentile_out_of_range_is_refused(percentile: float) -> None:
    with pytest.raises(ConfigError, match="percentile must be above 0 and below 100, got"):
        percentile_threshold(np.ones(3), percentile=percentile)


def test_a_percentile_needs_a_score() -> None:
    with pytest.raises(ConfigError, match="a percentile needs at least 1 score, got 0"):
        percentile_threshold(np.empty(0), percentile=50.0)
    assert percentile_threshold(np.array([2.0]), percentile=50.0) == 2.0
    assert percentile_threshold(np.array([1.0, 2.0]), percentile=75.0) == 1.75


@pytest.mark.parametrize(
    ("n", "false_alarm", "rank"), [(99, 0.01, 99), (98, 0.01, 99), (9, 0.5, 5), (10, 0.25, 9), (100, 0.3, 71)]
)
def test_the_conformal_rank(n: int, false_alarm: float, rank: int) -> None:
    assert conformal_rank(n, false_alarm=false_alarm) == rank


@pytest.mark.parametrize(("false_alarm", "n"), [(0.01, 99), (0.3, 3), (0.5, 1), (0.9, 1)])
def test_the_conformal_threshold_needs_some_scores(false_alarm: float, n: int) -> None:
    assert conformal_needs(false_alarm) == n


def test_the_conformal_threshold_is_the_score_of_that_rank() -> None:
    scores = np.array([3.0, 1.0, 2.0])
    assert conformal_threshold(scores, false_alarm=0.25) == 3.0
    assert conformal_threshold(scores, false_alarm=0.5) == 2.0
    with pytest.raises(ConfigError, match=r"a false alarm chance of 0\.2 needs at least 4 scores, got 3"):
        conformal_threshold(scores, false_alarm=0.2)
    for false_alarm in (0.0, 1.0):
        with pytest.raises(ConfigError, match="false_alarm must be above 0 and below 1"):
            conformal_threshold(scores, false_alarm=false_alarm)


def test_blocks_are_as_equal_as_possible() -> None:
    assert blocks(7, length=3) == (slice(0, 3), slice(3, 7))
    assert blocks(2, length=3) == (slice(0, 2),)
    assert blocks(2, length=1) == (slice(0, 1), slice(1, 2))
    assert blocks(0, length=3) == ()
    assert equal_blocks(7, n_blocks=3) == (slice(0, 2), slice(2, 4), slice(4, 7))
    with pytest.raises(ConfigError, match="length of a block must be at least 1, got 0"):
        blocks(3, length=0)
    assert block_maxima(np.array([1.0, 5.0, 2.0, 3.0]), length=2).tolist() == [5.0, 3.0]


def test_a_sustained_score_is_the_kth_largest_of_n() -> None:
    scores = np.array([1.0, 5.0, 2.0, 3.0])
    assert sustained(scores, k=2, n=3).tolist() == [-np.inf, 1.0, 2.0, 3.0]
    assert sustained(scores, k=1, n=1).tolist() == scores.tolist()
    assert sustained(scores, k=3, n=3).tolist() == [-np.inf, -np.inf, 1.0, 2.0]
    assert sustained(np.empty(0), k=1, n=2).tolist() == []
    for k in (0, 4):
        with pytest.raises(ConfigError, match=rf"k must be in 1\.\.n \(3\), got {k}"):
            sustained(scores, k=k, n=3)
