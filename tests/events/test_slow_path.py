import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.arrays import F64
from monitor.errors import ConfigError
from monitor.events.slow_path import (
    DEGREES,
    FOLDS,
    HOURS,
    MIN_RATIO,
    MINUTES,
    N_BLOCKS,
    WIDTH,
    SlowPath,
    SlowState,
    fit_normal_level,
    standing_out,
)

N_BANDS = 8
LIMITS_HZ = np.linspace(0.0, 8000.0, N_BANDS + 1, dtype=np.float64)
LEVEL_DB = np.full(N_BANDS, -60.0)
FAULT_DB = LEVEL_DB + np.eye(N_BANDS)[3] * 3.0  # between 3 and 4 kHz
POSITIVE = st.floats(0.01, 100.0)


def slow_path(state: SlowState | None = None, *, typical: float | None = 1.0) -> SlowPath:
    """One tick is a minute."""
    return SlowPath(tick_s=60.0, segment_ticks=10, typical=typical, limits_hz=LIMITS_HZ, state=state)


def hear(slow: SlowPath, scores: list[float], level_db: F64 = LEVEL_DB, *, is_normal: bool = True) -> list[bool]:
    raised = []
    for minute, score in enumerate(scores):
        slow.push(score, start=minute, is_normal=is_normal, level_db=lambda: level_db)
        raised.append(slow.raised)
    return raised


def watching(normal: float = 1.0, *, typical: float | None = 1.0) -> SlowPath:
    slow = slow_path(typical=typical)
    hear(slow, [normal] * (MINUTES * N_BLOCKS))
    return slow


def test_the_width_is_that_of_students_t() -> None:
    t = pytest.importorskip("scipy.stats").t  # not on the device

    assert pytest.approx(t.ppf(1 - 1 / 2000, DEGREES), abs=0.005) == WIDTH


@settings(deadline=None, max_examples=50)
@given(st.lists(POSITIVE, min_size=FOLDS, max_size=N_BLOCKS))
def test_the_limit_is_never_below_a_fifth_more_than_normal(medians: list[float]) -> None:
    reference = fit_normal_level(medians)
    assert reference.limit >= MIN_RATIO * reference.normal * (1 - 1e-9)
    assert reference.normal == pytest.approx(np.exp(np.median(np.log(medians))))


@settings(deadline=None, max_examples=50)
@given(st.lists(POSITIVE, min_size=FOLDS, max_size=N_BLOCKS), POSITIVE)
def test_the_unit_of_scores_does_not_matter(medians: list[float], unit: float) -> None:
    reference, other = fit_normal_level(medians), fit_normal_level([unit * median for median in medians])
    assert other.limit / other.normal == pytest.approx(reference.limit / reference.normal)


def test_the_limit_of_a_steady_level_is_a_fifth_above_it() -> None:
    steady = fit_normal_level([1.0] * N_BLOCKS)
    assert MIN_RATIO == 1.2
    assert steady.limit == pytest.approx(np.exp(WIDTH * 0.05 * np.sqrt(10 / 14) * np.sqrt(1.2)))  # 1.211, by the prior alone


def test_changes_from_hour_to_hour_widen_the_limit_more_than_those_from_minute_to_minute() -> None:
    levels = np.exp(0.4 * np.array([-1.0, 1.0] * (N_BLOCKS // 2)))
    assert fit_normal_level(sorted(levels.tolist())).spread > 1.15 * fit_normal_level(levels.tolist()).spread


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.1, 0.99 * MIN_RATIO), min_size=MINUTES, max_size=60))
def test_it_never_raises_below_a_fifth_more_than_normal_whatever_the_bands_do(scores: list[float]) -> None:
    assert not any(hear(watching(), scores, FAULT_DB, is_normal=False))


def test_a_lasting_rise_raises_within_half_the_median_and_gives_the_bands() -> None:
    slow = watching()
    hear(slow, [1.0] * MINUTES)
    raised = hear(slow, [3.0] * MINUTES, FAULT_DB, is_normal=False)
    assert raised.index(True) == MINUTES // 2
    (band,) = slow.bands
    assert (band.low_hz, band.high_hz) == (3000.0, 4000.0)
    assert band.excess_db == pytest.approx(3.0, abs=0.1)
    assert slow.onset == 0


def test_a_rise_that_is_nowhere_is_no_warning() -> None:
    slow = watching()
    hear(slow, [1.0] * MINUTES)
    assert not any(hear(slow, [3.0] * 30, LEVEL_DB + 3.0, is_normal=False))  # only louder
    assert slow.normal_level is not None and slow.ratio == pytest.approx(3.0 / slow.normal_level.limit)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(10.0, 1e6), max_size=MINUTES // 2))
def test_bangs_in_less_than_half_of_the_minutes_do_not_raise(bangs: list[float]) -> None:
    slow = watching()
    hear(slow, [1.0] * MINUTES)
    assert not any(hear(slow, bangs, FAULT_DB, is_normal=False) + hear(slow, [1.0] * MINUTES, FAULT_DB))


def test_it_clears_only_half_way_back_to_normal() -> None:
    slow = watching()
    hear(slow, [3.0] * MINUTES, FAULT_DB, is_normal=False)
    assert slow.normal_level is not None
    half_way = np.sqrt(slow.normal_level.normal * slow.normal_level.limit)
    assert all(hear(slow, [1.01 * half_way] * 30))
    assert hear(slow, [0.99 * half_way] * 30)[-1] is False
    assert slow.bands == ()


def test_only_normal_scores_are_learned_and_nothing_is_learned_afterwards() -> None:
    slow = slow_path()
    hear(slow, [5.0] * 1000, is_normal=False)
    assert (slow.status, slow.missing_h, slow.state().medians) == ("learning", HOURS, ())
    hear(slow, [1.0] * (MINUTES * N_BLOCKS - 1))
    assert slow.missing_h == pytest.approx(1 / 60)
    hear(slow, [1.0])
    assert (slow.status, slow.missing_h) == ("ready", 0.0)
    reference, learned = slow.normal_level, slow.state().medians
    hear(slow, [1.7] * 5000)
    assert (slow.normal_level, slow.state().medians) == (reference, learned)


def test_a_level_twice_that_of_training_asks_to_learn_again_and_never_raises() -> None:
    slow = watching(2.1)
    assert slow.status == "learn_again"
    assert not any(hear(slow, [50.0] * 60, FAULT_DB, is_normal=False))
    assert watching(1.9).status == "ready"
    assert watching(2.1, typical=None).status == "ready"


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0.2, 6.0), min_size=1, max_size=60), st.integers(0, N_BLOCKS + 40))
def test_a_restart_changes_no_later_decision(scores: list[float], split: int) -> None:
    """At the end of 15 minutes while it learns, of any minute afterwards, with no event open and none coming."""
    before = [1.0 + 0.01 * (i % 7) for i in range(MINUTES * min(split, N_BLOCKS) + max(0, split - N_BLOCKS))]
    after = [1.0 + 0.01 * (i % 5) for i in range(MINUTES * (N_BLOCKS - min(split, N_BLOCKS)))] + [1.0] * MINUTES + scores
    first = slow_path()
    hear(first, before)
    second = slow_path(first.state())
    assert hear(first, after, FAULT_DB) == hear(second, after, FAULT_DB)
    assert (first.state(), first.normal_level, first.ratio, first.bands) == (
        second.state(),
        second.normal_level,
        second.ratio,
        second.bands,
    )


def test_the_state_stays_small() -> None:
    slow = watching()
    hear(slow, [1.0] * 5000)
    state = slow.state()
    assert (len(state.medians), len(state.minutes), len(state.level_sum)) == (N_BLOCKS, MINUTES, N_BANDS)


def test_a_state_of_other_bands_is_refused() -> None:
    with pytest.raises(ConfigError, match="level_sum and shape_squares must hold 8 values, got 2"):
        slow_path(SlowState(medians=(1.0,), level_sum=(1.0, 2.0), shape_squares=(1.0, 2.0)))


def test_starting_anew_forgets_what_was_learned() -> None:
    slow = watching()
    slow.restart()
    assert (slow.status, slow.missing_h, slow.state().medians) == ("learning", HOURS, ())


def test_an_event_that_begins_again_has_another_onset() -> None:
    slow = watching()
    hear(slow, [1.0] * MINUTES)
    hear(slow, [3.0] * MINUTES, FAULT_DB, is_normal=False)
    slow.release(10)
    slow.push(3.0, start=MINUTES, is_normal=False, level_db=lambda: FAULT_DB)
    assert (slow.raised, slow.onset) == (True, 10)


def test_bands_stand_out_from_the_rest_clearly_and_by_their_spread() -> None:
    excess = np.array([1.0, 1.0, 1.0, 1.0, 3.0, 3.0, -2.0, 0.0])
    found = standing_out(excess, np.full(N_BANDS, 0.1), LIMITS_HZ)
    assert [(band.low_hz, band.high_hz, band.excess_db) for band in found] == [(6000.0, 7000.0, -2.0), (4000.0, 6000.0, 3.0)]
    assert standing_out(excess, np.full(N_BANDS, 0.8), LIMITS_HZ) == ()
    assert standing_out(1.49 * np.eye(N_BANDS)[3], np.full(N_BANDS, 0.1), LIMITS_HZ) == ()
    assert len(standing_out(1.51 * np.eye(N_BANDS)[3], np.full(N_BANDS, 0.1), LIMITS_HZ)) == 1


def test_what_is_louder_in_most_bands_by_more_than_a_gain_is_not_called_softer_in_the_rest() -> None:
    (band,) = standing_out(np.array([7.0] * 6 + [0.0] * 2), np.full(N_BANDS, 0.1), LIMITS_HZ)
    assert (band.low_hz, band.high_hz, band.excess_db) == (0.0, 6000.0, 7.0)
