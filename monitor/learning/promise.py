"""The levels and the false alarms to expect of a bundle that is learned from a given amount of sound, before it is learned."""

import math
from dataclasses import dataclass

from monitor.learning.false_alarms import poisson_bound
from monitor.learning.predictive import MAX_DEGREES, student_t_quantile
from monitor.learning.report_text import duration, significant
from monitor.learning.thresholds import ALARM_CHANCE, FUSED_PRIOR, WARNING_CHANCE, WARNING_MARGIN


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What can be expected after `minutes` of a machine's usual sound; docs/calibration.md explains the figures.

    `warning_from` and `alarm_from` are multiples of the usual score. `false_per_day` is the upper bound that no false event in
    so much sound shows (95 % confidence).
    """

    minutes: float
    warning_from: float
    alarm_from: float
    false_per_day: float

    @property
    def text(self) -> str:
        """The promise in words."""
        return (
            f"after {duration(self.minutes / 60)}: a warning from {self.warning_from:.1f} x the usual score, an alarm from "
            f"{self.alarm_from:.1f} x; fewer than {significant(self.false_per_day)} false events a day verified"
        )


def promise_after(minutes: float, *, segment_s: float) -> Promise:
    """The promise for a machine whose scores vary as those of others do (the prior), in segments of `segment_s`."""
    n = max(2, int(60.0 * minutes / segment_s))
    degrees = min(MAX_DEGREES, FUSED_PRIOR.weight + n - 1)
    spread = FUSED_PRIOR.spread(n) * math.sqrt(1.0 + 1.0 / n)
    warning, alarm = (
        math.exp(spread * student_t_quantile(chance, degrees)) for chance in (WARNING_CHANCE / WARNING_MARGIN, ALARM_CHANCE)
    )
    return Promise(
        minutes=round(minutes, 1),
        warning_from=round(warning, 2),
        alarm_from=round(alarm, 2),
        false_per_day=round(poisson_bound(0) * 24 * 60 / minutes, 1),
    )
