"""Run the components over a tick and turn summed ticks into the score."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from monitor.arrays import F64
from monitor.errors import ScoreError
from monitor.scoring.components.component import Component, Observation


class Detector:
    """One component, whose raw score is the score; or several, each as a multiple of its typical score, averaged.

    `powers` raise these multiples before they are averaged, so that a component that hardly varies counts, too.
    """

    def __init__(
        self, components: Sequence[Component], *, typical: Sequence[float] = (1.0,), powers: Sequence[float] | None = None
    ) -> None:
        if len(typical) != len(components):
            raise ScoreError(f"typical must hold a value for each of {len(components)} components, got {len(typical)}")
        for component, value in zip(components, typical, strict=True):
            if value <= 0.0:
                raise ScoreError(
                    f"component {component.name} must typically be above 0 to be a measure, got {value:g}: "
                    "as far as it can hear, normal sound is the same all along"
                )
        self.components = tuple(components)
        self._typical = tuple(typical)
        self._powers = (1.0,) * len(self.components) if powers is None else tuple(powers)
        ends = accumulate((component.n_sums for component in components), initial=0)
        self._spans = [slice(start, stop) for start, stop in pairwise(ends)]

    def measure(self, observation: Observation) -> F64:
        """Sums (k,), float64, of one tick; add them to those of other ticks."""
        return np.concatenate([component.measure(observation) for component in self.components])

    def parts(self, sums: F64) -> tuple[F64, ...]:
        """Each component's own part of the sums."""
        return tuple(sums[span] for span in self._spans)

    def component_scores(self, sums: F64) -> tuple[float, ...] | None:
        """Each component's raw number, in order; None when there is too little to score."""
        scores = []
        for component, part in zip(self.components, self.parts(sums), strict=True):
            score = component.score(part)
            if score is None:
                return None
            if not math.isfinite(score):
                raise ScoreError(f"component {component.name} must give a finite score, got {score}")
            scores.append(score)
        return tuple(scores)

    def score(self, sums: F64) -> float | None:
        """How abnormal the sound behind the sums is, higher = more; None when there is too little to score."""
        scores = self.component_scores(sums)
        return None if scores is None else self.fuse(scores)

    def fuse(self, scores: Sequence[float]) -> float:
        """The score from each component's raw number."""
        ratios = self._ratios(scores)
        return sum(ratios) / len(ratios)

    def component_ratios(self, sums: F64) -> tuple[float, ...] | None:
        """Each component's number as a multiple of what it typically is; None when there is too little to score."""
        scores = self.component_scores(sums)
        return None if scores is None else tuple(self._ratios(scores))

    def _ratios(self, scores: Sequence[float]) -> list[float]:
        return [(score / typical) ** power for score, typical, power in zip(scores, self._typical, self._powers, strict=True)]
