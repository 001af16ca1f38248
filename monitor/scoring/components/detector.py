"""Run the components over a tick and turn summed ticks into the score."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from monitor.arrays import F64
from monitor.errors import ScoreError
from monitor.scoring.components.component import Component, Observation


class Detector:
    """Averages the scores of the components, each as a multiple of its typical score.

    A single component's raw score is the score. `powers` are exponents, applied to these multiples before they are averaged,
    so that a component that hardly varies also counts.
    """

    def __init__(
        self, components: Sequence[Component], *, typical: Sequence[float] = (1.0,), powers: Sequence[float] | None = None
    ) -> None:
        if len(typical) != len(components):
            raise ScoreError(f"typical must hold a value for each of {len(components)} components, got {len(typical)}")
        for component, value in zip(components, typical, strict=True):
            if value <= 0.0:
                raise ScoreError(
                    f"component {component.name} must have a typical score above 0, got {value:g}: "
                    "it does not vary over the normal sound"
                )
        self.components = tuple(components)
        self._typical = tuple(typical)
        self._powers = (1.0,) * len(self.components) if powers is None else tuple(powers)
        ends = accumulate((component.n_sums for component in components), initial=0)
        self._spans = [slice(start, stop) for start, stop in pairwise(ends)]

    def measure(self, observation: Observation) -> F64:
        """Sums (k,), float64, of a tick, to be added to those of other ticks."""
        return np.concatenate([component.measure(observation) for component in self.components])

    def parts(self, sums: F64) -> tuple[F64, ...]:
        """The sums of each component."""
        return tuple(sums[span] for span in self._spans)

    def component_scores(self, sums: F64) -> tuple[float, ...] | None:
        """The raw score of each component, in order; None if there is too little sound."""
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
        """The score of summed ticks, higher = more abnormal; None if there is too little sound."""
        scores = self.component_scores(sums)
        return None if scores is None else self.fuse(scores)

    def fuse(self, scores: Sequence[float]) -> float:
        """Combine the raw scores of the components into the score."""
        ratios = self._ratios(scores)
        return sum(ratios) / len(ratios)

    def component_ratios(self, sums: F64) -> tuple[float, ...] | None:
        """The score of each component as a multiple of its typical score; None if there is too little sound."""
        scores = self.component_scores(sums)
        return None if scores is None else tuple(self._ratios(scores))

    def _ratios(self, scores: Sequence[float]) -> list[float]:
        return [(score / typical) ** power for score, typical, power in zip(scores, self._typical, self._powers, strict=True)]
