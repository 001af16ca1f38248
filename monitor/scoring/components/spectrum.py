"""The mean spectrum of a segment, as a feature."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from monitor.arrays import F64
from monitor.scoring.components.component import Observation


@dataclass(frozen=True)
class Spectrum:
    """The mean frame (n_bands,), dB. Its sums are the sum of the frames per band and, last, the number of frames."""

    n_bands: int
    name: ClassVar[str] = "spectrum"
    carries_level: ClassVar[bool] = True

    @property
    def n_sums(self) -> int:
        """One sum per band, and the number of frames."""
        return self.n_bands + 1

    @property
    def n_values(self) -> int:
        """One value per band."""
        return self.n_bands

    def measure(self, observation: Observation) -> F64:
        """The sum of the frames, and their number."""
        frames = observation.frames
        return np.append(frames.sum(axis=0, dtype=np.float64), len(frames))

    def values(self, sums: F64) -> F64 | None:
        """The mean frame; None if there are no frames."""
        return np.asarray(sums[:-1] / sums[-1]) if sums[-1] else None
