"""Fit the detector's statistics to normal sound: to all of it, and to all folds but one for cross-fitting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F64, Bool
from monitor.errors import ConfigError
from monitor.scoring.components.detector import Detector
from monitor.scoring.components.normal import NOISE_DB, Distance, Normal, fit_normal
from monitor.scoring.components.spectrum import Spectrum

MAX_ERROR_SPREAD = 0.2  # in log units, of the reconstruction error after raising it to a power
MIN_POWER, MAX_POWER = 0.25, 4.0
DRIFT_REACH = 8.0  # future sound differs by this multiple of the difference between a block of time and its neighbours
MIN_SPREAD = 0.005
Labels = NDArray[np.intp]


@dataclass(frozen=True)
class Fitted:
    """The normal values of each feature by name and, if there are several components, their typical raw scores and powers."""

    normals: Mapping[str, Normal]
    typical: tuple[float, ...] = ()
    powers: tuple[float, ...] = ()

    def detector(self, blank: Detector) -> Detector:
        """The given blank detector with these statistics."""
        components = [
            Distance(one.feature, self.normals[one.name]) if isinstance(one, Distance) else one for one in blank.components
        ]
        return Detector(components, typical=self.typical or (1.0,) * len(components), powers=self.powers or None)


@dataclass(frozen=True)
class CrossFit:
    """For each fold, the statistics fitted to the other folds.

    `typical` and `powers` come from scores of each fold by the statistics of the others. `drift` is the expected rise of the
    scores of future sound, in log units. It is estimated from the scores of blocks whose neighbours in time were not used
    for fitting, and is 0 if the rise is not significant.
    """

    without_fold: tuple[Fitted, ...]
    typical: tuple[float, ...]
    powers: tuple[float, ...]
    drift: float


def fit_normals(
    blank: Detector,
    sums: F64,
    *,
    gain_db: float,
    noise_db: F64 | None = None,
    states: Mapping[str, Labels] | None = None,
) -> dict[str, Normal]:
    """Fit the normal values of every feature to the sums (n, k) of n recordings or segments.

    `gain_db` is the standard deviation of the level in use, in addition to the variation in the recordings. `noise_db`
    (n_bands,) is the minimum spread of each band. `states` are labels (n,) of the normal states, by the name of the feature.
    """
    normals = {}
    for number, component in enumerate(blank.components):
        if isinstance(component, Distance):
            rows, has_values = feature_values(blank, number, sums)
            labels = None if states is None else np.unique(states[component.name][has_values], return_inverse=True)[1]
            level_db = gain_db if component.feature.carries_level else 0.0
            min_db = NOISE_DB if noise_db is None or not isinstance(component.feature, Spectrum) else noise_db
            normals[component.name] = fit_normal(rows, level_db=level_db, states=labels, noise_db=min_db)
    return normals


def feature_values(blank: Detector, number: int, sums: F64) -> tuple[F64, Bool]:
    """The vectors (m, p) of a feature for the rows of sums (n, k) that have one, and a mask (n,) of those rows."""
    component = blank.components[number]
    assert isinstance(component, Distance)
    found = [component.feature.values(blank.parts(row)[number]) for row in sums]
    return np.array([row for row in found if row is not None]), np.array([row is not None for row in found], bool)


def cross_fit(
    blank: Detector,
    folds: Sequence[F64],
    *,
    gain_db: float,
    noise_db: F64 | None = None,
    states: Mapping[str, Labels] | None = None,
) -> CrossFit:
    """Fit to all folds but one, for each fold of sums (n_i, k). Folds are contiguous in time and in chronological order.

    Sound to which the statistics were fitted has smaller distances than other sound. Each fold is therefore scored by the
    statistics of the other folds. The medians of those scores are the typical scores of the components. `states` are the
    labels of all rows.
    """
    if len(folds) < 2:
        raise ConfigError(f"cross-fitting needs at least 2 folds, got {len(folds)}")
    everything = np.concatenate(folds)
    ends = np.cumsum([len(fold) for fold in folds])
    blocks = [np.arange(end - len(fold), end) for fold, end in zip(folds, ends, strict=True)]

    def score(parts: Sequence[Labels]) -> tuple[list[dict[str, Normal]], F64]:
        return _cross_fitted_scores(blank, everything, parts, gain_db=gain_db, noise_db=noise_db, states=states)

    fits, scores = score(blocks)
    typical = tuple(float(np.float32(value)) for value in np.median(scores, axis=0))
    if min(typical) <= 0.0:
        raise ConfigError("the normal sound does not vary, so its spread cannot be learned")
    powers = _powers(blank, scores)
    interleaved = [np.arange(len(everything))[number :: len(folds)] for number in range(len(folds))]
    _, with_neighbours = score(interleaved)
    detector = Detector(blank.components, typical=typical, powers=powers)
    rises = np.log([detector.fuse(own) / detector.fuse(other) for own, other in zip(scores, with_neighbours, strict=True)])
    drift = _certain(rises)
    if len(blank.components) == 1:  # the score is the component's raw number
        typical, powers = (), ()
    return CrossFit(tuple(Fitted(normals, typical, powers) for normals in fits), typical, powers, drift)


def _cross_fitted_scores(
    blank: Detector,
    sums: F64,
    folds: Sequence[Labels],
    *,
    gain_db: float,
    noise_db: F64 | None,
    states: Mapping[str, Labels] | None,
) -> tuple[list[dict[str, Normal]], F64]:
    """The fit without each fold, and the raw component scores (n, n_components) of each row by the fit without its fold."""
    fits = []
    scores = np.empty((len(sums), len(blank.components)))
    for fold in folds:
        others = None if states is None else {name: np.delete(labels, fold) for name, labels in states.items()}
        normals = fit_normals(blank, np.delete(sums, fold, axis=0), gain_db=gain_db, noise_db=noise_db, states=others)
        detector = Fitted(normals).detector(blank)
        for row in fold:
            found = detector.component_scores(sums[row])
            if found is None:
                raise ConfigError("the normal sound is too short to be scored")
            scores[row] = found
        fits.append(normals)
    return fits, scores


def _powers(blank: Detector, scores: F64) -> tuple[float, ...]:
    """The power of each component, for raw cross-fitted scores (n, n_components). It is 1 for distances.

    The reconstruction error varies by a few percent where distances vary by tens of percent, or the other way round. Its
    power gives its log scores the spread of the distances (their geometric mean), at most MAX_ERROR_SPREAD.
    """
    spreads = np.maximum(MIN_SPREAD, np.log(scores).std(axis=0))
    is_distance = np.array([isinstance(component, Distance) for component in blank.components])
    if is_distance.all() or not is_distance.any():
        return (1.0,) * len(spreads)
    wanted = min(MAX_ERROR_SPREAD, float(np.exp(np.log(spreads[is_distance]).mean())))
    powers = np.where(is_distance, 1.0, np.clip(wanted / spreads, MIN_POWER, MAX_POWER))
    return tuple(float(np.float32(power)) for power in powers)


def _certain(rises: F64) -> float:
    """The expected future rise from rises (n,): a multiple of the mean minus its standard error, or 0 if that is negative."""
    return DRIFT_REACH * max(0.0, float(rises.mean() - rises.std(ddof=1) / np.sqrt(len(rises)))) if len(rises) > 1 else 0.0
