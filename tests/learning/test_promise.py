"""What is promised before a machine is learned."""

import math

import pytest
from scipy import stats

from monitor.learning.promise import promise_after
from monitor.learning.thresholds import ALARM_CHANCE, FUSED_PRIOR, WARNING_CHANCE, WARNING_MARGIN


@pytest.mark.parametrize("minutes", [0.1, 10.0, 30.0, 120.0])
def test_levels_are_those_of_a_predictive_distribution_whose_spread_is_the_prior(minutes: float) -> None:
    found = promise_after(minutes, segment_s=10.0)
    n = max(2, round(6 * minutes))
    degrees = min(10.0, FUSED_PRIOR.weight + n - 1)
    spread = FUSED_PRIOR.spread(n) * math.sqrt(1 + 1 / n)
    for level, chance in ((found.warning_from, WARNING_CHANCE / WARNING_MARGIN), (found.alarm_from, ALARM_CHANCE)):
        assert level == pytest.approx(math.exp(spread * stats.t.isf(chance, degrees)), rel=0.02)


def test_no_event_in_a_day_rules_out_three_a_day() -> None:
    assert promise_after(24 * 60, segment_s=10.0).false_per_day == pytest.approx(-math.log(0.05), abs=0.05)
    assert promise_after(12 * 60, segment_s=10.0).false_per_day == pytest.approx(-2 * math.log(0.05), abs=0.05)
