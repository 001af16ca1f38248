"""Fit the detector's statistics: what is normal of each feature, and each component's typical number."""

from dataclasses import dataclass

import numpy as np

from monitor.core.arrays import F64
from monitor.core.detector.detector import Detector
from monitor.core.detector.normal import NOISE_DB, Distance, Normal, fit_normal
from monitor.core.detector.spectrum import PerBand
from monitor.core.detector.states import find_states
from monitor.core.errors import ConfigError


@dataclass(frozen=True)
class Fitted:
    """What is normal, by the feature's name, and the components' typical numbers, where there are several."""

    normals: dict[str, Normal]
    typical: tuple[float, ...]

    def detector(self, blank: Detector) -> Detector:
        """The detector that has learned."""
        components = [
            Distance(one.feature, self.normals[one.name]) if isinstance(one, Distance) else one for one in blank.components
        ]
        return Detector(components, typical=self.typical or (1.0,))


def fit_statistics(
    blank: Detector, *, training: F64, held_out: F64, gain_db: float, max_states: int = 1, noise_db: F64 | None = None
) -> Fitted:
    """Learn from the sums (n, k) of segments: distances from training ones, typical numbers from held-out ones.

    `gain_db` is how far the level may be off in use, beyond what they show; `max_states` how many normal states a
    feature may have; `noise_db` (n_bands,) the least spread of each band. Typical is the median. Distances of segments
    that the statistics were fitted on are smaller than those of others.
    """
    normals = {}
    for number, component in enumerate(blank.components):
        if isinstance(component, Distance):
            feature = component.feature
            found = [feature.values(blank.parts(sums)[number]) for sums in training]
            rows = np.array([row for row in found if row is not None])
            level_db = gain_db if feature.carries_level else 0.0
            states = find_states(rows, max_states=max_states)
            per_band = NOISE_DB if noise_db is None or not isinstance(feature, PerBand) else noise_db
            normals[component.name] = fit_normal(rows, level_db=level_db, states=states, noise_db=per_band)
    if len(blank.components) == 1:
        return Fitted(normals, ())
    fitted = Fitted(normals, (1.0,) * len(blank.components)).detector(blank)
    scores = [one for sums in held_out if (one := fitted.component_scores(sums)) is not None]
    if not scores:
        raise ConfigError("held-out recordings must be at least half a segment long, got none that is")
    return Fitted(normals, tuple(float(np.float32(value)) for value in np.median(scores, axis=0)))
