"""What every detector component is: additive sums per tick, and a score from the sums of many ticks."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from monitor.arrays import F32, F64, Bool


@dataclass(frozen=True)
class Observation:
    """One tick as the model saw it.

    Targets and predictions (n_windows, n_values), dB, and which rows count; and the tick's frames that hold sound
    (n_frames, n_bands), dB. A window's values are its target frames, one after the other.
    """

    target: F32
    predicted: F32
    valid: Bool
    frames: F32

    @cached_property
    def error(self) -> F32:
        """How far the targets are above their predictions (n_windows, n_values), dB."""
        return self.target - self.predicted


class Component(Protocol):
    """One way to tell how abnormal a segment is. Higher is more abnormal.

    A component keeps no state: a segment's sums are the sum of its ticks' sums, which makes a segment, a whole file and
    a single tick the same computation.
    """

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        ...

    @property
    def n_sums(self) -> int:
        """How many sums it keeps."""
        ...

    def measure(self, observation: Observation) -> F64:
        """Sums (n_sums,), float64, over what is valid in one tick."""
        ...

    def score(self, sums: F64) -> float | None:
        """The score of summed ticks; None when they hold too little for one."""
        ...


class Feature(Protocol):
    """What of the sound a distance is taken of: a vector per segment, from sums per tick as a component's."""

    @property
    def name(self) -> str:
        """What the manifest calls the component made of it."""
        ...

    @property
    def n_sums(self) -> int:
        """How many sums it keeps."""
        ...

    @property
    def carries_level(self) -> bool:
        """Whether a gain adds the same to all its values."""
        ...

    @property
    def n_values(self) -> int:
        """How long its vector is."""
        ...

    def measure(self, observation: Observation) -> F64:
        """Sums (n_sums,), float64, over what is valid in one tick."""
        ...

    def values(self, sums: F64) -> F64 | None:
        """The vector (n_values,), dB, of summed ticks; None when they hold too little for one."""
        ...
