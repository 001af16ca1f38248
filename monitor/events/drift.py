"""Drift: how far normal sound has slowly moved from what the threshold was set on. For people; nothing acts on it."""

import math

DAY_S = 86_400.0
SAYS_AFTER_S = 600.0


class Drift:
    """The slow mean of standardised scores, (score - mean) / std of held-out normal segments, over normal segments alone.

    An exponential mean whose weights halve every 0.7 time constants of sound heard; before that much was heard, the plain
    mean of what was.
    """

    def __init__(self, *, score_mean: float, score_std: float, tick_s: float, time_s: float = DAY_S) -> None:
        self._mean, self._std = score_mean, score_std
        self._keeps = math.exp(-tick_s / time_s)
        self._says_above = 1.0 - math.exp(-SAYS_AFTER_S / time_s)
        self._sum = self._weight = 0.0

    def update(self, score: float) -> None:
        """One more normal segment; there is one a tick."""
        self._sum = self._keeps * self._sum + (1.0 - self._keeps) * (score - self._mean) / self._std
        self._weight = self._keeps * self._weight + (1.0 - self._keeps)

    @property
    def value(self) -> float | None:
        """In standard deviations of normal segments' scores; None until ten minutes were heard."""
        return self._sum / self._weight if self._weight >= self._says_above * (1.0 - 1e-9) else None
