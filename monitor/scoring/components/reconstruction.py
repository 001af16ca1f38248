"""The reconstruction error: the mean error of the model's prediction."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from monitor.arrays import F64
from monitor.scoring.components.component import Observation


@dataclass(frozen=True)
class Reconstruction:
    """The mean squared (`mse`, dB^2) or absolute (`mae`, dB) error over windows and target values."""

    error: Literal["mse", "mae"]
    name: ClassVar[str] = "reconstruction"
    n_sums: ClassVar[int] = 2

    def measure(self, observation: Observation) -> F64:
        """The sum of the errors of the windows, and the number of windows."""
        error = observation.error
        if self.error == "mse":
            rows = np.einsum("ij,ij->i", error, error) / np.float32(error.shape[1])
        else:
            rows = np.abs(error).mean(axis=1)
        valid = observation.valid
        return np.array((rows.sum(dtype=np.float64, where=valid), np.count_nonzero(valid)))

    def score(self, sums: F64) -> float | None:
        """The mean error of the windows."""
        return float(sums[0] / sums[1]) if sums[1] else None
