"""A threshold method and its parameter."""

from dataclasses import dataclass
from typing import Literal, get_args

from monitor.errors import ConfigError
from monitor.learning.thresholds import WARNINGS_PER_WEEK

MethodName = Literal["default", "mean+k*sigma", "percentile", "conformal", "gamma", "pot"]
METHODS: tuple[MethodName, ...] = get_args(MethodName)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method and its parameters; those that it does not use are ignored."""

    name: MethodName = "default"
    k: float = 4.0  # mean+k*sigma: standard deviations
    percentile: float = 99.9  # percentile: of the segment scores
    false_alarm: float = (
        0.02  # conformal: chance that a block of normal sound has a segment above; gamma: that a segment is above
    )
    events_per_week: float = 1.0  # pot: false events at most, after the rule

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise ConfigError(f"method must be one of {', '.join(METHODS)}, got {self.name!r}")
        if not 0.0 < self.k <= 100.0:
            raise ConfigError(f"k must be above 0 and at most 100, got {self.k:g}")
        if not 0.0 < self.percentile < 100.0:
            raise ConfigError(f"percentile must be above 0 and below 100, got {self.percentile:g}")
        if not 1e-9 <= self.false_alarm < 1.0:  # far below what any recording supports
            raise ConfigError(f"false_alarm must be at least 1e-09 and below 1, got {self.false_alarm:g}")
        if not 1e-3 <= self.events_per_week <= 10_000.0:
            raise ConfigError(f"events_per_week must be in 0.001..10000, got {self.events_per_week:g}")

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters that this method uses."""
        return {key: float(getattr(self, key)) for key in _USED[self.name]}

    @property
    def promised_per_week(self) -> float | None:
        """The rate of false events per week that the method aims at; None where it has no such aim."""
        return {"default": WARNINGS_PER_WEEK, "pot": self.events_per_week}.get(self.name)


_USED: dict[MethodName, tuple[str, ...]] = {
    "default": (),
    "mean+k*sigma": ("k",),
    "percentile": ("percentile",),
    "conformal": ("false_alarm",),
    "gamma": ("false_alarm",),
    "pot": ("events_per_week",),
}
