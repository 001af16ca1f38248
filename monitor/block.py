"""A block: consecutive samples as they arrive from a source."""

from dataclasses import dataclass

from monitor.arrays import F32


@dataclass(frozen=True)
class Block:
    """Consecutive samples (n,), float32, full scale [-1, 1], at the bundle's rate.

    `start` is the index of the first sample, counted from the opening of the source. A jump in it is a gap.
    `repeating`: the source is stuck, because these samples repeat earlier ones exactly.
    """

    start: int
    samples: F32
    repeating: bool = False
