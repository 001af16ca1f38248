"""What every detector component is: additive sums per tick, and a score from the sums of many ticks."""

from dataclasses import dataclass
from typing import Protocol

from monitor.core.arrays import F32, F64, Bool


@dataclass(frozen=True)
class Observation:
    """One tick as the model saw it: targets and predictions (n_windows, n_values), dB, and which rows count."""

    target: F32
    predicted: F32
    valid: Bool


class Component(Protocol):
    """One way to tell how abnormal a segment is. Higher is more abnormal.

    A component keeps no state: a segment's sums are the sum of its ticks' sums, which makes a segment, a whole file and
    a single tick the same computation.
    """

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        ...

    def measure(self, observation: Observation) -> F64:
        """Sums (k,), float64, over the valid rows of one tick."""
        ...

    def score(self, sums: F64) -> float | None:
        """The score of summed ticks; None when they hold no window."""
        ...
