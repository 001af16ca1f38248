"""Normal states of a machine (idle, load, speeds): a Gaussian mixture, with as many states as held-out likelihood supports."""

from collections.abc import Mapping

import numpy as np
from sklearn.mixture import GaussianMixture

from monitor.arrays import F64
from monitor.learning.fit import Labels, feature_values
from monitor.scoring.components import Detector, Distance
from monitor.scoring.components.normal import NOISE_DB

N_DIRECTIONS = 3  # principal components that states are separated in; with more, there are too few segments per state
MIN_SEGMENTS = 8  # in a state
N_FOLDS = 5
MIN_GAIN = 0.2  # of log-likelihood per segment; cutting an even spread along a line in two gains 0.18
MIN_ERRORS = 2.0  # standard errors by which the gain must be above 0


def find_normal_states(blank: Detector, sums: F64, *, max_states: int) -> Mapping[str, Labels]:
    """The normal state of each of the sums (n, k), at most `max_states`, by feature; -1 for rows without values."""
    found = {}
    for number, component in enumerate(blank.components):
        if isinstance(component, Distance):
            rows, has_values = feature_values(blank, number, sums)
            labels = np.full(len(sums), -1, np.intp)
            labels[has_values] = find_states(rows, max_states=max_states) if len(rows) else ()
            found[component.name] = labels
    return found


def find_states(rows: F64, *, max_states: int) -> Labels:
    """The state (n,), from 0, of each normal segment's vector, of rows (n, p).

    Another state is accepted only if it makes segments left out of the fit clearly more likely, and each state then has at
    least 8 segments.
    """
    n = len(rows)
    standard = (rows - rows.mean(axis=0)) / np.hypot(rows.std(axis=0), NOISE_DB)
    labels = np.zeros(n, np.intp)
    if n < 2 * MIN_SEGMENTS or not standard.any():
        return labels
    points = _projected(standard, standard)
    best = _held_out_likelihood(standard, 1)
    for k in range(2, max_states + 1):
        candidate = _mixture(k).fit_predict(points)
        if np.bincount(candidate, minlength=k).min() < MIN_SEGMENTS:
            continue
        likelihood = _held_out_likelihood(standard, k)
        gain = likelihood - best
        if gain.mean() > max(MIN_GAIN, MIN_ERRORS * gain.std(ddof=1) / np.sqrt(n)):
            best, labels = likelihood, candidate
    return labels


def _held_out_likelihood(standard: F64, k: int) -> F64:
    """The log-likelihood (n,) of each row under a mixture of k Gaussians fitted to the other folds."""
    fold = np.arange(len(standard)) % N_FOLDS
    likelihood = np.empty(len(standard))
    for number in range(N_FOLDS):
        others, left_out = standard[fold != number], standard[fold == number]
        mixture = _mixture(k).fit(_projected(others, others))
        likelihood[fold == number] = mixture.score_samples(_projected(others, left_out))
    return likelihood


def _mixture(k: int) -> GaussianMixture:
    return GaussianMixture(k, covariance_type="tied", n_init=5, random_state=0)


def _projected(fitted_to: F64, rows: F64) -> F64:
    """Rows projected onto the principal components of the rows `fitted_to`."""
    mean = fitted_to.mean(axis=0)
    directions = np.linalg.svd(fitted_to - mean, full_matrices=False)[2][:N_DIRECTIONS]
    return np.asarray((rows - mean) @ directions.T)
