"""Distances between recordings of one session and between recordings of different sessions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F64
from monitor.explain.band_power import band_power_db
from monitor.explain.envelope import Run

LIMITS_HZ = np.asarray(
    1000.0 * 2.0 ** ((np.arange(-10, 15) - 0.5) / 3.0), np.float64
)  # of third-octave bands (IEC 61260), 100 Hz to 20 kHz
_CARRIED = 0.9  # of half the rate; higher bands may be attenuated by a filter
_MAX_RECORDINGS = 500  # compared; the distances of all pairs of many more would take gigabytes
_MIN_DB = 0.1  # the repeatability of microphones


@dataclass(frozen=True)
class SessionDistances:
    """Median distances, dB, between two recordings of one session and between two of different ones.

    `farthest` is the number of the session that is farthest from the others.
    """

    within_db: float
    between_db: float
    farthest: int

    @property
    def ratio(self) -> float:
        """The distance between sessions as a multiple of that within a session."""
        return max(self.between_db, _MIN_DB) / max(self.within_db, _MIN_DB)


def band_levels_db(samples: Run, *, sample_rate_hz: int) -> F64:
    """The power (n,), dB per hertz, in the third-octave bands below half this rate."""
    carried = LIMITS_HZ[_CARRIED * sample_rate_hz / 2 >= LIMITS_HZ]
    return band_power_db([samples], carried, sample_rate_hz=sample_rate_hz)


def session_distances(levels_db: Sequence[Sequence[float]], sessions: Sequence[int]) -> SessionDistances | None:
    """Compare recordings by their mean band levels, dB; `sessions` are their sessions' numbers.

    A distance is the root mean square over the bands that all recordings have. None where there is only one session, or no
    session with two recordings.
    """
    of = np.asarray(sessions)
    chosen = np.unique(np.linspace(0, len(of) - 1, min(len(of), _MAX_RECORDINGS)).astype(int))
    n_bands = min(len(one) for one in levels_db)
    levels = np.array([levels_db[at][:n_bands] for at in chosen])
    of = of[chosen]
    distance = np.sqrt(np.mean((levels[:, None] - levels[None, :]) ** 2, axis=2))
    same = of[:, None] == of[None, :]
    pairs = np.triu(np.ones_like(same), 1)
    within, between = distance[same & pairs], distance[~same & pairs]
    if not len(within) or not len(between):
        return None
    numbers = np.unique(of)
    far = [np.median(distance[np.ix_(of == number, of != number)]) for number in numbers]
    return SessionDistances(float(np.median(within)), float(np.median(between)), int(numbers[np.argmax(far)]))
