"""The reference of normal sound, learned from the profiles of segments: spectrum, level, envelope spectrum."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32, F64
from monitor.errors import ConfigError
from monitor.explain.profile import SegmentProfile

MIN_SPREAD_DB = 0.5
MIN_ENVELOPE_SPREAD_DB = 1.0
_REACH = 16  # bands to either side that count as surroundings


@dataclass(frozen=True)
class Levels:
    """Levels of normal segments, dB: mean, spread, and spread of the contrast, each (n_bands,)."""

    mean_db: F32
    spread_db: F32
    contrast_spread_db: F32


@dataclass(frozen=True)
class EnvelopeSpectra:
    """Pooled envelope spectra of normal segments, dB: mean and spread, both (n_carriers, n_rates)."""

    mean_db: F32
    spread_db: F32


@dataclass(frozen=True)
class Reference:
    """Normal sound: mean (n_bands,), dB, and standard deviation, dB, of the mean frames of segments.

    `levels` are in sharp bands (`monitor.explain.band_power`). They and the envelope spectra are missing if there were too
    few segments to learn them.
    """

    mean_db: F32
    spread_db: F32
    levels: Levels | None = None
    envelope: EnvelopeSpectra | None = None

    @property
    def best_levels(self) -> Levels:
        """The levels in sharp bands or, if they are missing, those of mean frames, without a contrast."""
        return self.levels or Levels(self.mean_db, self.spread_db, np.full_like(self.spread_db, np.inf))


def fit_reference(profiles: Sequence[SegmentProfile]) -> Reference:
    """Fit the reference to profiles of normal segments that do not overlap; ConfigError if there are none."""
    if not profiles:
        raise ConfigError("no normal sound is at least half a segment long")
    mean_db, spread_db = _mean_and_spread(np.array([one.mean_db for one in profiles]), MIN_SPREAD_DB)
    levels = np.array([one.level_db for one in profiles])
    level_db, level_spread_db = _mean_and_spread(levels, MIN_SPREAD_DB)
    contrasts = np.array([contrast(level - level_db) for level in levels])
    contrast_spread_db = np.maximum(np.sqrt(np.mean(contrasts**2, axis=0)), MIN_SPREAD_DB)
    carriers = (np.array(rows) for rows in zip(*(one.envelope_db for one in profiles), strict=True))
    by_carrier = [_mean_and_spread(rows, MIN_ENVELOPE_SPREAD_DB) for rows in carriers]  # in turn, to save memory
    envelope = EnvelopeSpectra(*(np.array(values) for values in zip(*by_carrier, strict=True)))
    return Reference(mean_db, spread_db, Levels(level_db, level_spread_db, contrast_spread_db.astype(np.float32)), envelope)


def contrast(excess_db: F64) -> F64:
    """How far each band of an excess (n_bands,), dB, is above the median of its surroundings."""
    return excess_db - surroundings(excess_db)


def surroundings(excess_db: F64) -> F64:
    """The running median (n_bands,) of an excess: the part by which whole regions change when a recording is louder or softer."""
    reach = min(_REACH, (len(excess_db) - 1) // 2)
    padded = np.pad(excess_db, reach, mode="reflect")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1))


def _mean_and_spread(rows: F64 | F32, min_spread: float) -> tuple[F32, F32]:
    """Mean and standard deviation over rows (n, …), at least `min_spread`, because few rows underestimate it."""
    n = len(rows)
    spread = np.sqrt(np.sum((rows - rows.mean(axis=0)) ** 2, axis=0) / max(n - 1, 1))
    return rows.mean(axis=0).astype(np.float32), np.maximum(spread, min_spread).astype(np.float32)
