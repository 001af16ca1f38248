"""Normal states of a machine (idle, load, speeds): a Gaussian mixture, with as many states as held-out likelihood supports."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from sklearn.mixture import GaussianMixture

from monitor.arrays import F64
from monitor.learning.fit import Labels, feature_values
from monitor.scoring.components import Detector, Distance
from monitor.scoring.components.normal import NOISE_DB
from train.datasets.parallel import in_parallel, n_cores

N_DIRECTIONS = 3  # principal components that states are separated in; with more, there are too few segments per state
MIN_SEGMENTS = 8  # in a state
N_FOLDS = 5
MIN_GAIN = 0.2  # of log-likelihood per segment; cutting an even spread along a line in two gains 0.18
_FEW = 1000  # segments; less is done faster by one process than others start
MIN_ERRORS = 2.0  # standard errors by which the gain must be above 0


def find_normal_states(blank: Detector, sums: F64, *, max_states: int) -> Mapping[str, Labels]:
    """The normal state of each of the sums (n, k), at most `max_states`, by feature; -1 for rows without values."""
    numbers = [number for number, component in enumerate(blank.components) if isinstance(component, Distance)]
    values = [feature_values(blank, number, sums) for number in numbers]
    work = partial(find_states, max_states=max_states)
    workers = 1 if len(sums) < _FEW else min(n_cores(), max(1, len(values)))
    states = in_parallel(work, [rows for rows, _ in values], workers=workers, bar="states")
    found = {}
    for number, (_, has_values), of_rows in zip(numbers, values, states, strict=True):
        labels = np.full(len(sums), -1, np.intp)
        labels[has_values] = of_rows
        found[blank.components[number].name] = labels
    return found


def find_states(rows: F64, *, max_states: int) -> Labels:
    """The state (n,), from 0, of each normal segment's vector, of rows (n, p).

    Another state is accepted only if it makes segments left out of the fit clearly more likely, and each state then has at
    least 8 segments.
    """
    n = len(rows)
    if n < 2 * MIN_SEGMENTS:
        return np.zeros(n, np.intp)
    standard = (rows - rows.mean(axis=0)) / np.hypot(rows.std(axis=0), NOISE_DB)
    labels, fold = np.zeros(n, np.intp), np.arange(n) % N_FOLDS
    if not standard.any():
        return labels
    (points,) = _projected(standard)
    folds = [_projected(standard[fold != number], standard[fold == number]) for number in range(N_FOLDS)]
    best = _held_out_likelihood(folds, fold, 1)
    for k in range(2, max_states + 1):
        candidate = _mixture(k).fit_predict(points)
        if np.bincount(candidate, minlength=k).min() < MIN_SEGMENTS:
            continue
        likelihood = _held_out_likelihood(folds, fold, k)
        gain = likelihood - best
        if gain.mean() > max(MIN_GAIN, MIN_ERRORS * gain.std(ddof=1) / np.sqrt(n)):
            best, labels = likelihood, candidate
    return labels


def _held_out_likelihood(folds: Sequence[Sequence[F64]], fold: Labels, k: int) -> F64:
    """The log-likelihood (n,) of each row under a mixture of k Gaussians fitted to the other folds."""
    likelihood = np.empty(len(fold))
    for number, (others, left_out) in enumerate(folds):
        likelihood[fold == number] = _mixture(k).fit(others).score_samples(left_out)
    return likelihood


def _mixture(k: int) -> GaussianMixture:
    return GaussianMixture(k, covariance_type="tied", n_init=5, random_state=0)


def _projected(fitted_to: F64, *others: F64) -> list[F64]:
    """Rows, and others, projected onto the principal components of the first."""
    mean = fitted_to.mean(axis=0)
    directions = np.linalg.svd(fitted_to - mean, full_matrices=False)[2][:N_DIRECTIONS]
    return [(rows - mean) @ directions.T for rows in (fitted_to, *others)]
