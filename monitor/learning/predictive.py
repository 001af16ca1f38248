"""The score that a normal recording exceeds with a given probability, predicted from a few normal recordings."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from monitor.arrays import F64
from monitor.errors import ConfigError

MIN_CHANCE, MAX_CHANCE = 1e-6, 0.5
MIN_SPREAD = 0.005  # in log units; scores of two runtimes differ by up to 0.001
MAX_DEGREES = 10  # the tails of real log scores are at least as heavy (benchmarks.decide --part tails)


@dataclass(frozen=True)
class Prior:
    """The typical spread of machines, in log units: the limit for many recordings, and a term that is added for few.

    It has the weight of `weight` recordings.
    """

    limit: float
    per_recording: float
    weight: int

    def spread(self, n: int) -> float:
        """The standard deviation of the log score after learning from n recordings."""
        return self.limit + self.per_recording / n


@dataclass(frozen=True, kw_only=True)
class ScoreModel:
    """Log scores of normal recordings, relative to their typical score: Student's t with uncertain parameters.

    `typical` is the median score. `mean` and `spread` are those of ln(score / typical). `n` is the number of scores behind the
    mean, and `degrees` is the degrees of freedom of the spread.
    """

    typical: float
    mean: float
    spread: float
    n: int
    degrees: int

    def threshold(self, chance: float) -> float:
        """The score that another normal recording exceeds with this probability: a predictive quantile of Student's t.

        Gelman et al., Bayesian Data Analysis, 3rd edition (2013), section 3.3.
        """
        quantile = student_t_quantile(chance, self.degrees)
        return self.typical * math.exp(self.mean + quantile * self.spread * math.sqrt(1.0 + 1.0 / self.n))


def fit_score_model(scores: F64, *, n_learned: int, prior: Prior, drift: float = 0.0) -> ScoreModel:
    """Fit scores (n,), above 0, of normal recordings that the statistics were not fitted to; n at least 2.

    The logarithm of the spread is shrunk towards that of the prior for `n_learned` recordings, so that a very steady machine
    gets a small spread as soon as a very unsteady one gets a large one. `drift`, in log units, is the expected rise of
    the scores of future recordings. The distribution is shifted by it.
    """
    if len(scores) < 2:
        raise ConfigError(f"a score distribution needs at least 2 scores, got {len(scores)}")
    if scores.min() <= 0.0:
        raise ConfigError(f"scores must be above 0 to take logarithms, got {scores.min():g}")
    typical = float(np.median(scores))
    logs = np.log(scores / typical)
    n = len(scores)
    weight = prior.weight / (prior.weight + n - 1)
    found = max(MIN_SPREAD, float(logs.std(ddof=1)))
    spread = prior.spread(n_learned) ** weight * found ** (1.0 - weight)
    degrees = min(MAX_DEGREES, prior.weight + n - 1)
    return ScoreModel(typical=typical, mean=float(logs.mean()) + drift, spread=spread, n=n, degrees=degrees)


def student_t_quantile(chance: float, degrees: int) -> float:
    """The value that Student's t with at least 5 degrees of freedom exceeds with this probability.

    The error is below 0.1 % from 10 degrees on, for probabilities of 1e-4 and more. Source: the expansion in the normal
    quantile of Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.5.
    """
    if not MIN_CHANCE <= chance <= MAX_CHANCE:
        raise ConfigError(f"a chance must be in {MIN_CHANCE:g}..{MAX_CHANCE:g}, got {chance:g}")
    if degrees < 5:
        raise ConfigError(f"degrees of freedom must be at least 5, got {degrees}")
    z = -NormalDist().inv_cdf(chance)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / degrees**power for power, term in enumerate(terms, 1)))
