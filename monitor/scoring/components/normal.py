"""The normal range of a feature, and the Mahalanobis distance of a segment from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F64
from monitor.errors import ConfigError
from monitor.scoring.components.component import Feature, Observation

NOISE_DB = 0.5  # minimum spread of a value in use: noise, temperature and ageing of the microphone (docs/decisions/0024)
HIGH_NOISE_DB, HIGH_HZ = 1.0, 8000.0  # for bands above, in which most microphones deliver little but their own noise
EDGE_NOISE_DB, EDGE = 6.0, 0.48  # for bands that extend above this fraction of the rate, where resamplers and converters differ
MIN_SCALE_DB = 0.1  # for standardising values that do not change


@dataclass(frozen=True)
class Normal:
    """A feature's mean in each normal state (k, p), its standard deviation (p,), dB, and a matrix (p, p) that whitens it.

    All states have the same spread around their means. With C the covariance of standardised values, the matrix W satisfies
    W.T @ W = inv(C), so that the squared length of W @ z is the squared Mahalanobis distance of z. `noise` is the mean
    contribution of the microphone's noise to the distance.
    """

    mean: F64
    scale: F64
    whitening: F64
    noise: float = 0.0

    def distance(self, values: F64) -> float:
        """The squared Mahalanobis distance of values (p,) from the nearest state, divided by p: about 1 for normal sound.

        The noise of a microphone changes over time. Its mean contribution is included, so that a machine that varies less than
        that noise still scores about 1. It can at most double the distance.
        """
        white = ((values - self.mean) / self.scale) @ self.whitening.T
        return float(np.einsum("kp,kp->k", white, white).min()) / len(values) + self.noise


def fit_normal(
    rows: F64, *, level_db: float = 0.0, states: NDArray[np.intp] | None = None, noise_db: F64 | float = NOISE_DB
) -> Normal:
    """Fit the normal range to the vectors of normal segments, rows (n, p), dB, n at least 2.

    `states` (n,), from 0, are the states of the rows. Without them there is a single state.
    `level_db` is the standard deviation of the level in use, beyond its variation in the rows, due to the gain or position of
    a microphone. It widens the covariance in that one direction. `noise_db` (p,) is the separate standard deviation of each
    value; its square is added to each variance.
    """
    if len(rows) < 2:
        raise ConfigError(f"statistics need at least 2 normal segments, got {len(rows)}")
    if states is None:
        states = np.zeros(len(rows), np.intp)
    mean = np.array([rows[states == state].mean(axis=0) for state in range(states.max() + 1)])
    off = rows - mean[states]
    own = np.maximum(off.std(axis=0), MIN_SCALE_DB)
    scale = np.hypot(own, noise_db)
    covariance, _ = ledoit_wolf(off / own)
    covariance *= np.outer(own / scale, own / scale)
    covariance += np.diag((noise_db / scale) ** 2) + np.outer(level_db / scale, level_db / scale)
    mean, scale, whitening = (_as_stored(array) for array in (mean, scale, np.linalg.inv(np.linalg.cholesky(covariance))))
    noise = float(_as_stored(np.mean(np.sum((noise_db * whitening / scale) ** 2, axis=0))))
    return Normal(mean, scale, whitening, noise)


def least_spread_db(limits_hz: F64, *, sample_rate_hz: int) -> F64:
    """The minimum spread (n_bands,), dB, of the bands between these limits (n_bands + 1,)."""
    spread = np.where(limits_hz[:-1] < HIGH_HZ, NOISE_DB, HIGH_NOISE_DB)
    return np.where(limits_hz[1:] > EDGE * sample_rate_hz, EDGE_NOISE_DB, spread)


def _as_stored(array: F64) -> F64:
    """Round to the precision of a bundle, so that a freshly fitted detector and a loaded one are bit-identical."""
    return array.astype(np.float32).astype(np.float64)


def nothing_known(n_values: int) -> Normal:
    """A placeholder before the fit: the distance is the mean square of the values."""
    return Normal(np.zeros((1, n_values)), np.ones(n_values), np.eye(n_values))


@dataclass(frozen=True)
class Distance:
    """A component: the distance of a feature from normal."""

    feature: Feature
    normal: Normal

    @property
    def name(self) -> str:
        """The name of the feature."""
        return self.feature.name

    @property
    def n_sums(self) -> int:
        """The number of sums of the feature."""
        return self.feature.n_sums

    def measure(self, observation: Observation) -> F64:
        """The sums of the feature."""
        return self.feature.measure(observation)

    def score(self, sums: F64) -> float | None:
        """The distance of summed ticks."""
        values = self.feature.values(sums)
        return None if values is None else self.normal.distance(values)


def ledoit_wolf(rows: F64) -> tuple[F64, float]:
    """Shrunk covariance (p, p) of rows (n, p), and the shrinkage towards the mean variance, 0 to 1.

    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate
    Analysis 88 (2004), as scikit-learn's `LedoitWolf` computes it (n in the divisor, rows centred).
    """
    n, p = rows.shape
    if n < 1:
        raise ConfigError("a covariance needs at least 1 row, got 0")
    centred = rows - rows.mean(axis=0)
    covariance = centred.T @ centred / n
    if p == 1:
        return covariance, 0.0
    mean_variance = float(np.trace(covariance)) / p
    squares = float(np.sum(covariance**2))
    distance = squares / p - mean_variance**2
    fourth = float(np.sum(np.sum(centred**2, axis=1) ** 2)) / n
    noise = min((fourth - squares) / (n * p), distance)
    shrinkage = noise / distance if noise > 0.0 else 0.0
    return (1.0 - shrinkage) * covariance + shrinkage * mean_variance * np.eye(p), shrinkage
