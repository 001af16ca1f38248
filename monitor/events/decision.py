"""The decision rule: when segment scores raise a warning or an alarm, and when it ends."""

from dataclasses import dataclass, replace
from typing import ClassVar

from monitor.errors import ConfigError
from monitor.events.event import Severity


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When an anomaly begins and ends, in segments."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}

    raise_k: int = 12
    raise_n: int = 20
    clear_ratio: float = 0.9  # relative to the threshold
    clear_m: int = 20  # consecutive segments

    def __post_init__(self) -> None:
        if not 1 <= self.raise_n <= 10_000:
            raise ConfigError(f"raise_n must be in 1..10000, got {self.raise_n}")
        if not 1 <= self.raise_k <= self.raise_n:
            raise ConfigError(f"raise_k must be in 1..raise_n ({self.raise_n}), got {self.raise_k}")
        if not 0.0 < self.clear_ratio < 1.0:
            raise ConfigError(f"clear_ratio must be above 0 and below 1, got {self.clear_ratio:g}")
        if not 1 <= self.clear_m <= 10_000:
            raise ConfigError(f"clear_m must be in 1..10000, got {self.clear_m}")


@dataclass(frozen=True)
class RuleState:
    """The state of the rule between segments."""

    severity: Severity | None = None  # of the open anomaly
    recent: tuple[Severity | None, ...] = ()  # severity reached by each of the last raise_n segments, oldest first
    below: int = 0  # consecutive segments under clear_ratio

    @property
    def raised(self) -> bool:
        """Whether there is an open anomaly."""
        return self.severity is not None


def decide_at_once(counts: RuleState) -> RuleState:
    """Raise an alarm for a gross fault, or keep it open, regardless of the segments' scores."""
    return replace(counts, severity="alarm", below=0)


def decide(rule: Rule, counts: RuleState, ratio: float, *, alarm_ratio: float = 1.0) -> RuleState:
    """Count one more segment with this ratio (score / threshold). A change of `severity` begins, escalates or ends an anomaly.

    A warning is raised when k of n segments have a ratio of at least 1, an alarm when k of n have a ratio of at least
    `alarm_ratio` (1 or more). If that is 1, every anomaly is an alarm. The severity never falls while an anomaly is open.
    """
    reached: Severity | None = "alarm" if ratio >= alarm_ratio else "warning" if ratio >= 1.0 else None
    recent = (*counts.recent, reached)[-rule.raise_n :]
    below = counts.below + 1 if ratio < rule.clear_ratio else 0
    if counts.raised and below >= rule.clear_m:
        return RuleState()
    return RuleState(_severity(rule, counts.severity, recent), recent, below)


def _severity(rule: Rule, before: Severity | None, recent: tuple[Severity | None, ...]) -> Severity | None:
    if before == "alarm" or recent.count("alarm") >= rule.raise_k:
        return "alarm"
    return "warning" if before or len(recent) - recent.count(None) >= rule.raise_k else None
