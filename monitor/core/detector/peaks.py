"""The loudest moments of each band as a feature, for machines that knock."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from monitor.core.arrays import F64
from monitor.core.detector.component import Observation
from monitor.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Each band's frames in a tick, the k-th loudest (from 0) weighted decay^k, then the mean over ticks (n_bands,), dB.

    Global weighted ranking pooling as in Guan et al., Time-weighted frequency domain audio representation with GMM
    estimator for anomalous sound detection (ICASSP 2023). 1 would be the mean, 0 the maximum.
    """

    n_bands: int
    decay: float
    name: ClassVar[str] = "peaks"
    carries_level: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.decay < 1.0:
            raise ConfigError(f"peaks.decay must be above 0 and below 1, got {self.decay:g}")

    @property
    def n_sums(self) -> int:
        """A sum a band, and the number of frames."""
        return self.n_bands + 1

    @property
    def n_values(self) -> int:
        """One a band."""
        return self.n_bands

    def measure(self, observation: Observation) -> F64:
        """The tick's pooled frame times its frames, and how many those are."""
        n = len(observation.frames)
        weights = self.decay ** np.arange(n)[::-1]
        ranked = np.sort(observation.frames.T, axis=1)
        pooled = ranked @ (n * weights / weights.sum()) if n else np.zeros(self.n_bands)
        return np.append(pooled, n)

    def values(self, sums: F64) -> F64 | None:
        """The mean pooled frame."""
        return np.asarray(sums[:-1] / sums[-1]) if sums[-1] else None
