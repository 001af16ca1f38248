"""The decision: when segment scores become an anomaly, and when it is over."""

from dataclasses import dataclass, replace
from typing import ClassVar

from monitor.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When an anomaly begins and ends, counted in segments."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}

    raise_k: int = 12
    raise_n: int = 20
    clear_ratio: float = 0.9  # of the threshold
    clear_m: int = 20  # in a row

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
class Counts:
    """What the rule remembers between segments."""

    raised: bool = False
    recent: tuple[bool, ...] = ()  # of the last raise_n segments, oldest first: at or over the threshold?
    below: int = 0  # segments in a row under clear_ratio


def decide_at_once(counts: Counts) -> Counts:
    """A gross fault is heard: begin an anomaly, or keep it open however little the segments show of it."""
    return replace(counts, raised=True, below=0)


def decide(rule: Rule, counts: Counts, ratio: float) -> Counts:
    """Count one more segment with this ratio (score / threshold). A change of `raised` begins or ends an anomaly."""
    recent = (*counts.recent, ratio >= 1.0)[-rule.raise_n :]
    below = counts.below + 1 if ratio < rule.clear_ratio else 0
    if counts.raised:
        return Counts() if below >= rule.clear_m else replace(counts, recent=recent, below=below)
    return Counts(raised=sum(recent) >= rule.raise_k, recent=recent, below=below)
