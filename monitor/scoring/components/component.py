"""The interface of detector components: additive sums per tick, and a score from the sums of many ticks."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from monitor.arrays import F32, F64, Bool


@dataclass(frozen=True)
class Observation:
    """The model's view of a tick.

    Targets and predictions (n_windows, n_values), dB. `valid` (n_windows,) masks the rows that count. `frames`
    (n_frames, n_bands), dB, are the frames of the tick that hold sound. A row contains the target frames of a window, one
    after the other.
    """

    target: F32
    predicted: F32
    valid: Bool
    frames: F32

    @cached_property
    def error(self) -> F32:
        """Targets minus predictions (n_windows, n_values), dB."""
        return self.target - self.predicted


class Component(Protocol):
    """A measure of how abnormal a segment is. Higher is more abnormal.

    A component is stateless. The sums of a segment are the sum of the sums of its ticks, so that a segment, a whole file and
    a single tick are scored by the same computation.
    """

    @property
    def name(self) -> str:
        """The name in the manifest."""
        ...

    @property
    def n_sums(self) -> int:
        """The number of sums."""
        ...

    def measure(self, observation: Observation) -> F64:
        """Sums (n_sums,), float64, over the valid part of a tick."""
        ...

    def score(self, sums: F64) -> float | None:
        """The score of summed ticks; None if they hold too little sound."""
        ...


class Feature(Protocol):
    """A vector per segment, from which a distance is computed. The sums per tick are additive, as in a component."""

    @property
    def name(self) -> str:
        """The name of the component in the manifest."""
        ...

    @property
    def n_sums(self) -> int:
        """The number of sums."""
        ...

    @property
    def carries_level(self) -> bool:
        """Whether a gain adds the same amount to all values."""
        ...

    @property
    def n_values(self) -> int:
        """The length of the vector."""
        ...

    def measure(self, observation: Observation) -> F64:
        """Sums (n_sums,), float64, over the valid part of a tick."""
        ...

    def values(self, sums: F64) -> F64 | None:
        """The vector (n_values,), dB, of summed ticks; None if they hold too little sound."""
        ...
