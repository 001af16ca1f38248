"""The modulation feature: the energy of differences between frames that are a few frames apart, in groups of bands."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np

from monitor.arrays import F32, F64
from monitor.errors import ConfigError
from monitor.scoring.components.component import Observation

_MAX_DENSE = 1 << 16  # elements of the largest matrix; a tick of a shipped recipe needs 4,128
FLOOR_DB2 = 0.01  # a tenth of a decibel: smaller differences do not count


@dataclass(frozen=True, kw_only=True)
class Modulation:
    """Mean squared difference of frames `lags` apart within a tick, in groups of neighbouring bands, dB.

    Bands are averaged before the difference, so that common changes stand out from the noise of single bands. A gain cancels.
    """

    n_bands: int
    n_groups: int
    lags: tuple[int, ...]  # in frames
    name: ClassVar[str] = "modulation"
    carries_level: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.n_groups <= self.n_bands:
            raise ConfigError(f"modulation.n_groups must be in 1..{self.n_bands}, got {self.n_groups}")
        if not self.lags or min(self.lags) < 1 or list(self.lags) != sorted(set(self.lags)):
            raise ConfigError(f"modulation.lags_frames must be above 0 and rise, got {list(self.lags)}")

    @cached_property
    def _mix(self) -> F32:
        """A matrix (n_bands, n_groups) that averages each group's bands."""
        group = np.arange(self.n_bands) * self.n_groups // self.n_bands
        members = group[:, None] == np.arange(self.n_groups)
        return np.asarray(members / members.sum(axis=0), np.float32)

    @property
    def n_sums(self) -> int:
        """One sum per lag and group, and one count of differences per lag."""
        return self.n_values + len(self.lags)

    @property
    def n_values(self) -> int:
        """One value per lag and group."""
        return len(self.lags) * self.n_groups

    def measure(self, observation: Observation) -> F64:
        """Sums of squared differences, lag by lag, then the number of differences for each lag."""
        groups = observation.frames @ self._mix
        counts = [max(0, len(groups) - lag) for lag in self.lags]
        if sum(counts) * max(len(groups), len(counts)) <= _MAX_DENSE:
            difference, add = _matrices(self.lags, len(groups))
            moves = difference @ groups
            energies = (add @ np.square(moves, out=moves)).reshape(-1)
        else:
            moves_of = (groups[lag:] - groups[:-lag] for lag in self.lags)
            energies = np.concatenate([np.einsum("ij,ij->j", moves, moves) for moves in moves_of])
        return np.concatenate((energies, counts), dtype=np.float64)

    def values(self, sums: F64) -> F64 | None:
        """The means in dB, lag by lag. Lags longer than the sound get the values of the longest lag that fits."""
        counts = sums[self.n_values :]
        n_lags = int(np.count_nonzero(counts))  # longer lags have fewer differences
        if not n_lags:
            return None
        energies = sums[: self.n_values].reshape(len(self.lags), -1)[:n_lags] / counts[:n_lags, None]
        if n_lags < len(self.lags):
            energies = np.concatenate((energies, np.repeat(energies[-1:], len(self.lags) - n_lags, axis=0)))
        return np.asarray(10.0 * np.log10(np.maximum(energies, FLOOR_DB2))).reshape(-1)


@lru_cache(maxsize=8)
def _matrices(lags: tuple[int, ...], n_frames: int) -> tuple[F32, F32]:
    """Matrices that map frames to their differences, lag by lag, and squares of these to the sums of each lag.

    Two products take half the time of a step for each lag.
    """
    counts = np.maximum(0, n_frames - np.array(lags))
    lag_of = np.repeat(np.arange(len(lags)), counts)
    first = np.concatenate([np.arange(n) for n in counts])
    second = first + np.array(lags)[lag_of]
    frame = np.arange(n_frames)
    difference = (frame == second[:, None]).astype(np.float32) - (frame == first[:, None]).astype(np.float32)
    return difference, np.asarray(np.arange(len(lags))[:, None] == lag_of, np.float32)
