"""The slow path and the times of an anomaly, in numbers that can be checked by hand."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from monitor.arrays import F64
from monitor.errors import ConfigError
from monitor.events.decision import Rule, RuleState, decide
from monitor.events.drift import Drift
from monitor.events.onset import Anomaly
from monitor.events.slow_path import SlowPath, SlowState, fit_normal_level, standing_out

START = datetime(2026, 11, 21, 10, 0, 0, tzinfo=timezone.utc)
LIMITS_HZ = np.linspace(0.0, 8000.0, 9)
QUIET: F64 = np.full(8, -60.0)


def test_the_spread_of_the_level_is_that_of_five_folds_shrunk_to_a_prior() -> None:
    """Logarithms 0, 0, 0, 0 and 0.4: only the last fold differs from the median of the others."""
    found = fit_normal_level([1.0, 1.0, 1.0, 1.0, math.exp(0.4)])
    spread = math.sqrt((10 * 0.05**2 + 4 * 0.4**2 / 5) / 14)
    assert found.spread == pytest.approx(spread)
    assert found.normal == 1.0
    assert found.limit == pytest.approx(math.exp(4.14 * spread * math.sqrt(1.2)))
    assert found.clear_ratio == pytest.approx(math.exp(-0.5 * 4.14 * spread * math.sqrt(1.2)))
    assert fit_normal_level([0.0] * 5).normal == pytest.approx(1e-9)
    with pytest.raises(ConfigError, match="a reference needs at least 5 medians, got 4"):
        fit_normal_level([1.0] * 4)


def test_folds_are_contiguous_and_each_is_compared_with_all_others() -> None:
    medians = [math.exp(0.1 * at) for at in range(10)]
    logs = 0.1 * np.arange(10)
    squares = [(logs[at] - np.median(np.delete(logs, [at // 2 * 2, at // 2 * 2 + 1]))) ** 2 for at in range(10)]
    assert fit_normal_level(medians).spread == pytest.approx(math.sqrt((10 * 0.05**2 + 4 * np.mean(squares)) / 14))


@pytest.mark.parametrize(
    ("excess", "spread_db", "found"),
    [
        ([0.0, 0.0, 0.0, 1.5, 0.0, 0.0, 0.0, 0.0], 0.1, [(3000.0, 1.5)]),
        ([0.0, 0.0, 0.0, 1.4, 0.0, 0.0, 0.0, 0.0], 0.1, []),
        ([0.0, 0.0, 0.0, 3.9, 0.0, 0.0, 0.0, 0.0], 1.0, []),
        ([0.0, 0.0, 0.0, 4.1, 0.0, 0.0, 0.0, 0.0], 1.0, [(3000.0, 4.1)]),
        ([3.0, 3.0, 3.0, 4.6, 3.0, 3.0, 3.0, 3.0], 0.1, [(3000.0, 4.6)]),  # a gain of up to 3 dB does not count
        ([3.0, 3.0, 3.0, 4.4, 3.0, 3.0, 3.0, 3.0], 0.1, []),
        ([4.6, 4.6, 4.6, 4.6, 4.6, 4.6, 4.6, 0.0], 0.1, [(0.0, 4.6)]),
        ([4.4, 4.4, 4.4, 4.4, 4.4, 4.4, 4.4, 0.0], 0.1, []),
        ([-4.6, -4.6, -4.6, -4.6, -4.6, -4.6, -4.6, 0.0], 0.1, [(0.0, -4.6)]),
        ([-1.0, -1.0, -1.0, 1.4, -1.0, -1.0, -1.0, -1.0], 0.1, []),  # beyond the others, but not by itself
        ([0.0, 2.0, 0.0, -3.0, 0.0, 4.0, 0.0, 0.0], 0.1, [(5000.0, 4.0), (3000.0, -3.0), (1000.0, 2.0)]),
    ],
)
def test_bands_stand_out_by_one_and_a_half_decibels_and_four_spreads(
    excess: list[float], spread_db: float, found: list[tuple[float, float]]
) -> None:
    bands = standing_out(np.array(excess), np.full(8, spread_db), LIMITS_HZ)
    assert [(band.low_hz, band.excess_db) for band in bands] == found


def test_at_most_five_bands_stand_out() -> None:
    excess: F64 = np.tile([5.0, 0.0, 0.0], 8)
    assert len(standing_out(excess, np.full(24, 0.1), np.linspace(0.0, 8000.0, 25))) == 5


def learned(*, tick_s: float = 60.0, segment_ticks: int = 10, minutes: tuple[float, ...] = ()) -> SlowPath:
    """A path that has learned a median of 1 and a level of -60 dB in 32 times 15 minutes."""
    state = SlowState((1.0,) * 32, (-60.0 * 32,) * 8, (0.0,) * 8, minutes)
    return SlowPath(tick_s=tick_s, segment_ticks=segment_ticks, typical=1.0, limits_hz=LIMITS_HZ, state=state)


def test_a_minute_is_59_ticks_of_a_second_and_is_measured_once_per_segment() -> None:
    slow = learned(tick_s=1.024)
    calls: list[int] = []

    def level_db() -> F64:
        calls.append(len(calls))
        return QUIET

    for at in range(118):
        slow.push(1.0, start=at, is_normal=True, level_db=level_db)
        assert len(slow.state().minutes) == (at + 1) // 59
    assert len(calls) == 2 * 5


def test_a_tick_longer_than_a_minute_is_a_minute() -> None:
    slow = learned(tick_s=200.0)
    slow.push(1.0, start=0, is_normal=True, level_db=lambda: QUIET)
    assert slow.state().minutes == (1.0,)


def test_fifteen_minutes_have_a_median_and_a_ratio() -> None:
    slow = learned(minutes=(1.0,) * 14)
    assert (slow.median, slow.ratio, slow.missing_h, slow.status) == (None, None, 0.0, "ready")
    slow.push(5.0, start=0, is_normal=False, level_db=lambda: QUIET)
    limit = math.exp(4.14 * 0.05 * math.sqrt(10 / 14 * 1.2))
    assert slow.median == 1.0
    assert slow.ratio == pytest.approx(1.0 / limit)
    assert learned(minutes=tuple(float(at) for at in range(20))).state().minutes == tuple(float(at) for at in range(5, 20))


def test_what_is_missing_is_counted_in_hours_of_eight() -> None:
    state = SlowState((1.0,) * 4, (0.0,) * 8, (0.0,) * 8)
    slow = SlowPath(tick_s=60.0, segment_ticks=10, typical=None, limits_hz=LIMITS_HZ, state=state)
    assert slow.missing_h == 7.0
    for at in range(6):
        slow.push(1.0, start=at, is_normal=True, level_db=lambda: QUIET)
    assert slow.missing_h == pytest.approx(6.9)


def test_the_level_and_its_shape_are_summed_block_by_block() -> None:
    slow = SlowPath(tick_s=60.0, segment_ticks=1, typical=1.0, limits_hz=np.array([0.0, 1.0, 2.0]))
    for at in range(30):
        level_db = np.array([-60.0, -50.0 if at < 15 else -54.0])
        slow.push(1.0 + at, start=at, is_normal=True, level_db=lambda level_db=level_db: level_db)  # type: ignore[misc]
    state = slow.state()
    assert state.medians == (8.0, 23.0)
    assert state.level_sum == pytest.approx((-120.0, -104.0))
    assert state.shape_squares == pytest.approx((25.0 + 9.0, 25.0 + 9.0))
    assert state.minutes == ()


def push(slow: SlowPath, score: float, start: int, excess_db: float) -> None:
    slow.push(score, start=start, is_normal=False, level_db=lambda: QUIET + excess_db * np.eye(8)[3])


def test_the_bands_are_those_of_the_minutes_over_the_limit() -> None:
    slow = learned(minutes=(1.0,) * 7)
    for at in range(7):
        push(slow, 1.5, 10 * at, 6.0)
        assert not slow.raised
    push(slow, 1.5, 70, 2.0)
    assert slow.raised and slow.onset == 0
    assert [(band.low_hz, band.excess_db) for band in slow.bands] == [(3000.0, 5.5)]
    push(slow, 1.0, 80, 50.0)  # below the limit, so it does not count
    assert [band.excess_db for band in slow.bands] == [5.5]
    assert slow.onset == 80
    push(slow, 1.5, 90, 5.5)
    assert slow.onset == 90


def test_a_spread_of_the_learned_shape_hides_what_is_usual() -> None:
    squares = tuple(32 * (3.0**2) * np.eye(8)[3])  # 3 dB in the fourth band
    state = SlowState((1.0,) * 32, (-60.0 * 32,) * 8, squares, (1.5,) * 14)
    for excess_db, raised in ((11.9, False), (12.1, True)):
        slow = SlowPath(tick_s=60.0, segment_ticks=1, typical=1.0, limits_hz=LIMITS_HZ, state=state)
        push(slow, 1.5, 0, excess_db)
        assert slow.raised == raised


def test_a_level_more_than_twice_that_of_training_is_learned_again() -> None:
    for typical, status in ((0.5, "ready"), (0.49, "learn_again")):
        state = SlowState((1.0,) * 32, (0.0,) * 8, (0.0,) * 8)
        slow = SlowPath(tick_s=60.0, segment_ticks=1, typical=typical, limits_hz=LIMITS_HZ, state=state)
        assert slow.status == status


@dataclass
class Clock:
    """A clock that is `ahead_s` ahead."""

    ahead_s: float = 0.0
    sample_rate_hz: int = 100
    synced: bool = True

    def at(self, sample: int) -> datetime:
        return START + timedelta(seconds=sample / self.sample_rate_hz + self.ahead_s)


def seconds(times: tuple[datetime, datetime]) -> tuple[float, float]:
    return tuple((time - START).total_seconds() for time in times)  # type: ignore[return-value]


def test_the_times_of_an_anomaly_move_with_the_clock_alone() -> None:
    anomaly, clock = Anomaly(start=1000, last_stop=1000, peak_ratio=1.0, severity="warning"), Clock()
    assert seconds(anomaly.set_times(3000, clock)) == (30.0, 10.0)
    assert seconds(anomaly.set_times(9000, clock)) == (90.0, 10.0)
    clock.ahead_s = 100.0
    assert seconds(anomaly.set_times(15000, clock)) == (250.0, 110.0)
    assert seconds(anomaly.set_times(16000, clock)) == (260.0, 110.0)
    clock.ahead_s = 40.0
    assert seconds(anomaly.set_times(17000, clock)) == (210.0, 50.0)
    clock.ahead_s += 0.01  # not a step
    assert seconds(anomaly.set_times(18000, clock)) == (220.01, 50.0)


def test_drift_is_the_weighted_mean_of_standardised_scores() -> None:
    drift = Drift(score_mean=2.0, score_std=0.5, tick_s=300.0, time_s=600.0)
    drift.update(3.0)
    assert drift.value is None
    drift.update(2.5)
    weight = math.exp(-0.5)
    assert drift.value == pytest.approx((2.0 * weight + 1.0) / (weight + 1.0))


def test_a_rule_counts_to_the_segment() -> None:
    rule, counts = Rule(raise_k=2, raise_n=3, clear_ratio=0.9, clear_m=2), RuleState()
    severities = []
    for ratio in (1.0, 0.95, 0.95, 1.0, 1.0, 2.0, 1.0, 2.0, 0.89, 0.9, 0.89, 0.89, 1.0):
        counts = decide(rule, counts, ratio, alarm_ratio=2.0)
        severities.append(counts.severity)
    assert severities == [None] * 4 + ["warning"] * 3 + ["alarm"] * 4 + [None, None]
