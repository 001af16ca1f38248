"""Features with one value a band: what they share, the mean frame of a segment, and the same without its level."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from monitor.arrays import F64
from monitor.scoring.components.component import Observation


@dataclass(frozen=True)
class PerBand:
    """A sum a band and, last, how much was summed; the vector (n_bands,) is their mean. `measure` is each one's own."""

    n_bands: int
    carries_level: ClassVar[bool] = True

    @property
    def n_sums(self) -> int:
        """A sum a band, and the count."""
        return self.n_bands + 1

    @property
    def n_values(self) -> int:
        """One a band."""
        return self.n_bands

    def values(self, sums: F64) -> F64 | None:
        """Their mean, where there is any."""
        return np.asarray(sums[:-1] / sums[-1]) if sums[-1] else None


@dataclass(frozen=True)
class Spectrum(PerBand):
    """The mean frame (n_bands,), dB."""

    name: ClassVar[str] = "spectrum"

    def measure(self, observation: Observation) -> F64:
        """The sum of the frames, and their number."""
        frames = observation.frames
        return np.append(frames.sum(axis=0, dtype=np.float64), len(frames))


@dataclass(frozen=True)
class Shape(Spectrum):
    """The mean frame without its own mean over the bands: what a microphone's gain does not change."""

    name: ClassVar[str] = "shape"
    carries_level: ClassVar[bool] = False

    def values(self, sums: F64) -> F64 | None:
        """The mean frame's distance from its level."""
        mean = super().values(sums)
        return None if mean is None else mean - mean.mean()
