"""The mean residual of a segment as a feature: where the sound is, on average, not what the model made of it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from monitor.arrays import F64
from monitor.scoring.components.component import Observation
from monitor.scoring.components.spectrum import PerBand


@dataclass(frozen=True)
class Residual(PerBand):
    """The mean over windows and their target frames of target minus prediction (n_bands,), dB.

    What differs between the states of one machine is in the prediction, so that it does not widen this as it does the
    mean frame.
    """

    name: ClassVar[str] = "residual"

    def measure(self, observation: Observation) -> F64:
        """The sum over the windows, each one's target frames folded to their mean, and the windows' number."""
        valid = observation.valid
        error = valid.astype(np.float32) @ observation.error
        return np.append(error.reshape(-1, self.n_bands).mean(axis=0, dtype=np.float64), np.count_nonzero(valid))
