"""Drift: the slow change of normal sound since the threshold was set. For information only: nothing acts on it."""

import math

DAY_S = 86_400.0
MIN_SOUND_S = 600.0


class Drift:
    """The slow mean of standardised scores, (score - mean) / std of held-out normal segments, over normal segments only.

    An exponential mean whose weights halve every 0.7 time constants of sound. It starts as the plain mean of all sound so
    far.
    """

    def __init__(self, *, score_mean: float, score_std: float, tick_s: float, time_s: float = DAY_S) -> None:
        self._mean, self._std = score_mean, score_std
        self._decay = math.exp(-tick_s / time_s)
        self._min_weight = 1.0 - math.exp(-MIN_SOUND_S / time_s)
        self._sum = self._weight = 0.0

    def update(self, score: float) -> None:
        """Include one more normal segment. There is one per tick."""
        self._sum = self._decay * self._sum + (1.0 - self._decay) * (score - self._mean) / self._std
        self._weight = self._decay * self._weight + (1.0 - self._decay)

    @property
    def value(self) -> float | None:
        """Drift in standard deviations of normal segments' scores; None before ten minutes of sound."""
        return self._sum / self._weight if self._weight >= self._min_weight * (1.0 - 1e-9) else None
