"""Fit the detector's statistics to normal sound, and to all of it but one fold after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F64, Bool
from monitor.errors import ConfigError
from monitor.scoring.components.detector import Detector
from monitor.scoring.components.normal import NOISE_DB, Distance, Normal, fit_normal
from monitor.scoring.components.spectrum import Spectrum

ERROR_SPREAD = 0.2  # log units: a reconstruction error that varies by less is raised to a power
MAX_POWER = 4.0
DRIFT_REACH = 6.0  # the future lies further out than one block of time does from its neighbours
MIN_SPREAD = 0.01
Labels = NDArray[np.intp]


@dataclass(frozen=True)
class Fitted:
    """The normal values of each feature, by its name, and for several components their typical raw scores and powers."""

    normals: Mapping[str, Normal]
    typical: tuple[float, ...] = ()
    powers: tuple[float, ...] = ()

    def detector(self, blank: Detector) -> Detector:
        """The blank detector with these statistics."""
        components = [
            Distance(one.feature, self.normals[one.name]) if isinstance(one, Distance) else one for one in blank.components
        ]
        return Detector(components, typical=self.typical or (1.0,) * len(components), powers=self.powers or None)


@dataclass(frozen=True)
class CrossFit:
    """Statistics of all folds but one, for each fold, and what they say of the fold that they do not know.

    `drift` is how much higher, in log units, future sound is expected to score. It follows from how much a block scores
    when its neighbours in time were not learned, and is 0 where that cannot be told from chance.
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

    `gain_db` is the standard deviation by which the level may be off in use, beyond what they show, and `noise_db`
    (n_bands,) the least spread of each band. `states` say in which normal state of a feature, by its name, each is (n,).
    """
    normals = {}
    for number, component in enumerate(blank.components):
        if isinstance(component, Distance):
            rows, has_values = feature_values(blank, number, sums)
            labels = None if states is None else np.unique(states[component.name][has_values], return_inverse=True)[1]
            level_db = gain_db if component.feature.carries_level else 0.0
            least_db = NOISE_DB if noise_db is None or not isinstance(component.feature, Spectrum) else noise_db
            normals[component.name] = fit_normal(rows, level_db=level_db, states=labels, noise_db=least_db)
    return normals


def feature_values(blank: Detector, number: int, sums: F64) -> tuple[F64, Bool]:
    """A feature's vectors (m, p) of those sums (n, k) that have one, and which have (n,)."""
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
    """Fit to all folds but one, for each fold of sums (n_i, k); folds are contiguous in time and in order.

    Distances of sound that the statistics were fitted to are smaller than those of other sound. So each fold is scored by
    statistics that do not know it: the medians of those scores are the components' typical scores. `states` are those of
    all folds, as `find_normal_states` gives them.
    """
    if len(folds) < 2:
        raise ConfigError(f"cross-fitting needs at least 2 folds, got {len(folds)}")
    everything = np.concatenate(folds)
    ends = np.cumsum([len(fold) for fold in folds])
    blocks = [np.arange(end - len(fold), end) for fold, end in zip(folds, ends, strict=True)]

    def score(parts: Sequence[Labels]) -> tuple[list[dict[str, Normal]], F64]:
        return _scores_of_unknown(blank, everything, parts, gain_db=gain_db, noise_db=noise_db, states=states)

    fits, scores = score(blocks)
    typical = tuple(float(np.float32(value)) for value in np.median(scores, axis=0))
    if min(typical) <= 0.0:
        raise ConfigError("normal sound must vary to learn how much, got sound that is the same all along")
    powers = tuple(_power(component.name, raw) for component, raw in zip(blank.components, scores.T, strict=True))
    interleaved = [np.arange(len(everything))[number :: len(folds)] for number in range(len(folds))]
    _, neighbours_known = score(interleaved)
    judge = Detector(blank.components, typical=typical, powers=powers)
    rises = np.log([judge.fuse(own) / judge.fuse(other) for own, other in zip(scores, neighbours_known, strict=True)])
    drift = _certain(rises)
    if len(blank.components) == 1:  # its raw score is the score
        typical, powers = (), ()
    return CrossFit(tuple(Fitted(normals, typical, powers) for normals in fits), typical, powers, drift)


def _scores_of_unknown(
    blank: Detector,
    sums: F64,
    folds: Sequence[Labels],
    *,
    gain_db: float,
    noise_db: F64 | None,
    states: Mapping[str, Labels] | None,
) -> tuple[list[dict[str, Normal]], F64]:
    """The fits without each fold, and every row's raw component scores (n, n_components) by the fit that lacks it."""
    fits = []
    scores = np.empty((len(sums), len(blank.components)))
    for fold in folds:
        others = None if states is None else {name: np.delete(labels, fold) for name, labels in states.items()}
        normals = fit_normals(blank, np.delete(sums, fold, axis=0), gain_db=gain_db, noise_db=noise_db, states=others)
        judge = Fitted(normals).detector(blank)
        for row in fold:
            found = judge.component_scores(sums[row])
            if found is None:
                raise ConfigError("normal sound must be long enough to score, got sound that is not")
            scores[row] = found
        fits.append(normals)
    return fits, scores


def _power(name: str, scores: F64) -> float:
    """The power that gives the plain error's log scores (n,) a spread like that of distances; 1 for distances."""
    if name != "reconstruction":
        return 1.0
    spread = float(np.log(scores).std())
    return float(np.float32(min(MAX_POWER, max(1.0, ERROR_SPREAD / max(spread, MIN_SPREAD)))))


def _certain(rises: F64) -> float:
    """The rise to expect of the future from rises (n,): the mean less two standard errors, several times; 0 if negative."""
    return DRIFT_REACH * max(0.0, float(rises.mean() - 2.0 * rises.std(ddof=1) / np.sqrt(len(rises)))) if len(rises) > 1 else 0.0
