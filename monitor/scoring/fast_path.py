"""The fast path: within three seconds, detect sound that is much louder than all normal sound for most of two ticks."""

import math
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32, F64
from monitor.errors import ConfigError

FAST_TICK_S = (0.8, 1.15)  # two ticks must be longer than a bang, and two and a half must be shorter than three seconds
N_TICKS = 2  # ticks that are evaluated together
LASTING = 0.75  # fraction of the frames of these ticks that must be loud
FREQUENT = 0.25  # fraction of the frames used for the ceiling, so that bangs may take up half the time
# Lower limit of the ceiling, relative to the machine's level, so that a hiss next door does not trigger the fast path.
QUIET_DB = -10.0
MIN_THRESHOLD_DB = 10.0  # perceived as twice as loud
MARGIN_DB = 3.0  # above the loudest held-out normal sound
FOLDS = 5


@dataclass(frozen=True)
class Fast:
    """The ceiling of normal sound (n_bands,), dB, and the excess over it, dB, that counts as a gross fault."""

    ceiling_db: F32
    threshold_db: float

    @property
    def note(self) -> str:
        """One sentence about the ceiling and the threshold, for reports."""
        return (
            f"the fast path raises an alarm when a band is {self.threshold_db:.3g} dB louder than all normal sound for 2 s; "
            f"against a ceiling from four fifths of that sound, the last fifth stays at least {MARGIN_DB:.3g} dB below"
        )


def lasting_frame(frames: F32) -> F32:
    """The level (n_bands,), dB, that each band of frames (m, n_bands) reaches in three quarters of them."""
    return _reached(frames, LASTING)


def frequent_frame(frames: F32) -> F32:
    """The level (n_bands,), dB, that each band reaches in a quarter of the frames.

    Bangs during half the time do not lift a lasting frame above it.
    """
    return _reached(frames, FREQUENT)


def frequent_frames(frames: F32, *, tick_frames: int) -> F32:
    """The frequent frames (n, n_bands), dB, of every two neighbouring ticks of unbroken frames (m, n_bands)."""
    starts = range(0, len(frames) - N_TICKS * tick_frames + 1, tick_frames)
    rows = [frequent_frame(frames[start : start + N_TICKS * tick_frames]) for start in starts]
    return np.array(rows, np.float32).reshape(len(rows), frames.shape[1])


def excess_db(lasting: F32, ceiling_db: F32) -> float:
    """The largest excess of a band over its ceiling, dB; negative where no band exceeds it."""
    return float(np.max(lasting - ceiling_db))


def fit_fast(rows: F32, *, limits_hz: F64) -> Fast | None:
    """Fit to the frequent frames of normal sound, rows (n, n_bands), dB, in chronological order; None for fewer than 2.

    The ceiling is the maximum of each band, so that it includes rare states of the machine. The threshold is `MARGIN_DB`
    above the largest excess of a fifth of the sound over the ceiling of the rest. `limits_hz` (n_bands + 1,) are the band
    limits of the front end.
    """
    if len(rows) < 2:
        return None
    if len(limits_hz) != rows.shape[1] + 1:
        raise ConfigError(f"limits_hz must hold {rows.shape[1] + 1} values, got {len(limits_hz)}")
    parts = np.array_split(rows, min(FOLDS, len(rows)))
    ceilings = [_ceiling(np.concatenate(parts[:i] + parts[i + 1 :]), limits_hz) for i in range(len(parts))]
    largest = max(float(np.max(part - ceiling)) for part, ceiling in zip(parts, ceilings, strict=True))
    return Fast(_ceiling(rows, limits_hz), round(max(MIN_THRESHOLD_DB, largest + MARGIN_DB), 2))


def _reached(frames: F32, share: float) -> F32:
    rank = len(frames) - math.ceil(share * len(frames))  # 0-based rank, counted from the smallest
    return np.asarray(np.partition(np.ascontiguousarray(frames.T), rank, axis=1)[:, rank])


def _ceiling(rows: F32, limits_hz: F64) -> F32:
    """The maximum of each band, but at least 10 dB below the level of white noise with the same total power."""
    loudest = rows.max(axis=0).astype(np.float64)
    level_db = 10.0 * np.log10(np.average(10.0 ** (loudest / 10.0), weights=np.diff(limits_hz)))
    return np.asarray(np.maximum(loudest, level_db + QUIET_DB), np.float32)
