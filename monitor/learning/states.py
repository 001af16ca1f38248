"""Which normal states a machine has (idle, load, speeds): a small Gaussian mixture, as large as held-out likelihood wants."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F64
from monitor.scoring.components.normal import NOISE_DB

N_DIRECTIONS = 3  # principal ones, in which states are told apart: in more, too few segments say too little of each
MIN_SEGMENTS = 8  # in a state
N_FOLDS = 5
MIN_GAIN = 0.2  # of log likelihood a segment: an even spread along a line would gain 0.18 if it were cut to pieces
MIN_ERRORS = 2.0  # standard errors by which the gain must be above 0
N_STEPS = 50  # at most, until one gains less than
MIN_STEP = 1e-3  # of log likelihood a segment
RIDGE = 1e-6
Labels = NDArray[np.intp]


def find_states(rows: F64, *, max_states: int) -> Labels:
    """Which state (n,), counted from 0, each normal segment's vector, of rows (n, p), is in.

    There is one more state where it makes segments left out of the fit clearly likelier and holds at least 8 of them.
    """
    n = len(rows)
    if max_states == 1 or n < 2 * MIN_SEGMENTS:
        return np.zeros(n, np.intp)
    standard = (rows - rows.mean(axis=0)) / np.hypot(rows.std(axis=0), NOISE_DB)
    found = list(_mixtures(_projected(standard, standard), max_states))
    fold = np.arange(n) % N_FOLDS
    likelihood = np.full((len(found), n), -np.inf)
    for number in range(N_FOLDS):
        others, left_out = standard[fold != number], standard[fold == number]
        judged = _projected(others, left_out)
        for mixture, row in zip(_mixtures(_projected(others, others), len(found)), likelihood, strict=False):
            row[fold == number] = _log_sum(mixture.log_densities(judged))
    best = 0
    for k in range(1, len(found)):
        if np.bincount(found[k].labels, minlength=k + 1).min() < MIN_SEGMENTS or not np.isfinite(likelihood[k]).all():
            continue
        gain = likelihood[k] - likelihood[best]
        if gain.mean() > max(MIN_GAIN, MIN_ERRORS * gain.std(ddof=1) / np.sqrt(n)):
            best = k
    return found[best].labels


def _projected(learnt: F64, rows: F64) -> F64:
    """Rows along the principal directions of those learnt from."""
    mean = learnt.mean(axis=0)
    directions = np.linalg.svd(learnt - mean, full_matrices=False)[2][:N_DIRECTIONS]
    return np.asarray((rows - mean) @ directions.T)


@dataclass(frozen=True)
class _Mixture:
    """Gaussians that share a covariance: log weights (k,), means (k, d), whitening (d, d); what it was fitted on: labels (n,)."""

    log_weights: F64
    means: F64
    whitening: F64
    labels: Labels
    log_likelihood: float

    def log_densities(self, points: F64) -> F64:
        """Weight times density at points (n, d), of each Gaussian (n, k), but for a constant."""
        return _log_densities(points, self.log_weights, self.means, self.whitening)


def _log_densities(points: F64, log_weights: F64, means: F64, whitening: F64) -> F64:
    white = (points[:, None] - means) @ whitening.T
    return np.asarray(log_weights - 0.5 * np.einsum("nkd,nkd->nk", white, white) + np.log(np.diag(whitening)).sum())


def _log_sum(logs: F64) -> F64:
    top = logs.max(axis=1)
    return np.asarray(top + np.log(np.exp(logs - top[:, None]).sum(axis=1)))


def _mixtures(points: F64, max_states: int) -> Iterator[_Mixture]:
    """Mixtures of one, two, three … Gaussians, each the last with its best cut in two; fewer where none can be cut."""
    mixture = _expectation_maximisation(points, np.zeros(len(points), np.intp), 1)
    while mixture is not None:
        yield mixture
        k = len(mixture.means)
        if k == max_states:
            return
        grown = [_expectation_maximisation(points, labels, k + 1) for labels in _cuts(points, mixture.labels, k)]
        mixture = max((one for one in grown if one is not None), key=lambda one: one.log_likelihood, default=None)


def _cuts(points: F64, labels: Labels, k: int) -> Iterator[Labels]:
    """Each of k states cut in two at its mean, across each of its principal directions."""
    for state in range(k):
        members = np.flatnonzero(labels == state)
        if len(members) < MIN_SEGMENTS:
            continue
        centred = points[members] - points[members].mean(axis=0)
        for direction in np.linalg.svd(centred, full_matrices=False)[2]:
            beyond = members[centred @ direction > 0]
            if len(beyond):  # else they are all alike
                cut = labels.copy()
                cut[beyond] = k
                yield cut


def _expectation_maximisation(points: F64, labels: Labels, k: int) -> _Mixture | None:
    """The mixture of k Gaussians that labels lead to; None when one dies out. Bishop (2006), 9.2.2, with one covariance."""
    n, d = points.shape
    shares = np.eye(k)[labels]
    squares = points.T @ points / n + RIDGE * np.eye(d)
    likelihood = -np.inf
    for _ in range(N_STEPS):
        counts = shares.sum(axis=0)
        if counts.min() < 1.0:
            return None
        weights, means = counts / n, shares.T @ points / counts[:, None]
        whitening = np.linalg.inv(np.linalg.cholesky(squares - (weights[:, None] * means).T @ means))
        logs = _log_densities(points, np.log(weights), means, whitening)
        each = _log_sum(logs)
        shares = np.exp(logs - each[:, None])
        before, likelihood = likelihood, float(each.sum())
        if likelihood - before < MIN_STEP * n:
            break
    return _Mixture(np.log(weights), means, whitening, shares.argmax(axis=1), likelihood)
