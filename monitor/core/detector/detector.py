"""Run the components over a tick and turn summed ticks into the score."""

import math

from monitor.core.arrays import F64
from monitor.core.detector.component import Component, Observation
from monitor.core.errors import ScoreError


class Detector:
    """One component, whose raw number is the score (`fusion: none`)."""

    def __init__(self, component: Component) -> None:
        self._component = component

    def measure(self, observation: Observation) -> F64:
        """Sums (k,), float64, of one tick; add them to those of other ticks."""
        return self._component.measure(observation)

    def score(self, sums: F64) -> float | None:
        """How abnormal the sound behind the sums is, higher = more; None when there is nothing to score."""
        score = self._component.score(sums)
        if score is not None and not math.isfinite(score):
            raise ScoreError(f"component {self._component.name} must give a finite score, got {score}")
        return score
