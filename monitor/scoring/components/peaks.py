"""The loudest moments of each band as a feature, for machines that knock."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from monitor.arrays import F64
from monitor.errors import ConfigError
from monitor.scoring.components.component import Observation
from monitor.scoring.components.spectrum import PerBand


@dataclass(frozen=True, kw_only=True)
class Peaks(PerBand):
    """Each band's frames in a tick, the k-th loudest (from 0) weighted decay^k, then the mean over ticks (n_bands,), dB.

    Global weighted ranking pooling as in Guan et al., Time-weighted frequency domain audio representation with GMM
    estimator for anomalous sound detection (ICASSP 2023). 1 would be the mean, 0 the maximum.
    """

    decay: float
    name: ClassVar[str] = "peaks"

    def __post_init__(self) -> None:
        if not 0.0 < self.decay < 1.0:
            raise ConfigError(f"peaks.decay must be above 0 and below 1, got {self.decay:g}")

    def measure(self, observation: Observation) -> F64:
        """The tick's pooled frame times its frames, and how many those are."""
        n = len(observation.frames)
        weights = self.decay ** np.arange(n)[::-1]
        ranked = np.sort(observation.frames.T, axis=1)
        pooled = ranked @ (n * weights / weights.sum()) if n else np.zeros(self.n_bands)
        return np.append(pooled, n)
