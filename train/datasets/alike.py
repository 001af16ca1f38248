"""How alike the sessions of a data set are: recordings of different ones compared with recordings of the same one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F64
from monitor.explain.band_power import band_power_db
from monitor.explain.envelope import Run

LIMITS_HZ = np.asarray(
    1000.0 * 2.0 ** ((np.arange(-10, 15) - 0.5) / 3.0), np.float64
)  # of third-octave bands (IEC 61260), 100 Hz to 20 kHz
_CARRIED = 0.9  # of half the rate: what lies above may be a filter's
_MOST = 500  # recordings compared: the distances of all pairs of many more would take gigabytes
_LEAST_DB = 0.1  # microphones repeat themselves no better


@dataclass(frozen=True)
class Likeness:
    """Median distances, dB, between two recordings of one session and between two of different ones.

    `unlike` is the session that is farthest from the others, by its number.
    """

    within_db: float
    between_db: float
    unlike: int

    @property
    def ratio(self) -> float:
        """How many times as much as recordings of one session those of different ones differ."""
        return max(self.between_db, _LEAST_DB) / max(self.within_db, _LEAST_DB)


def band_levels_db(samples: Run, *, sample_rate_hz: int) -> F64:
    """The power (n,), dB a hertz, in the third-octave bands that this rate carries."""
    carried = LIMITS_HZ[_CARRIED * sample_rate_hz / 2 >= LIMITS_HZ]
    return band_power_db([samples], carried, sample_rate_hz=sample_rate_hz)


def likeness(levels_db: Sequence[Sequence[float]], sessions: Sequence[int]) -> Likeness | None:
    """Compare recordings by their mean band levels, dB; `sessions` are the numbers of theirs.

    A distance is the root mean square over the bands that all recordings have. None where there is but one session, or no
    session with two recordings.
    """
    of = np.asarray(sessions)
    chosen = np.unique(np.linspace(0, len(of) - 1, min(len(of), _MOST)).astype(int))
    n_bands = min(len(one) for one in levels_db)
    levels = np.array([levels_db[at][:n_bands] for at in chosen])
    of = of[chosen]
    apart = np.sqrt(np.mean((levels[:, None] - levels[None, :]) ** 2, axis=2))
    same = of[:, None] == of[None, :]
    pairs = np.triu(np.ones_like(same), 1)
    within, between = apart[same & pairs], apart[~same & pairs]
    if not len(within) or not len(between):
        return None
    numbers = np.unique(of)
    far = [np.median(apart[np.ix_(of == number, of != number)]) for number in numbers]
    return Likeness(float(np.median(within)), float(np.median(between)), int(numbers[np.argmax(far)]))
