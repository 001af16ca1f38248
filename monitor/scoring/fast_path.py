"""The fast path: told within three seconds, what is much louder than all that is normal, and for most of two ticks."""

import math
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32, F64
from monitor.errors import ConfigError

FAST_TICK_S = (0.8, 1.15)  # two must be longer than a bang, two and a half shorter than three seconds
N_TICKS = 2  # that are looked at together
LASTING = 0.75  # of their frames must be loud
FREQUENT = 0.25  # of them are the rule: bangs, however loud, have half the time to themselves
QUIET_DB = -10.0  # under the machine's own level: quieter bands count as being so loud, a hiss next door is no scream
LEAST_DB = 10.0  # twice as loud to the ear
MARGIN_DB = 3.0  # over the loudest normal sound, as heard by a ceiling that does not know it
FOLDS = 5


@dataclass(frozen=True)
class Fast:
    """What no band passes for long in normal sound, (n_bands,), dB, and by how many dB a gross fault does."""

    ceiling_db: F32
    threshold_db: float

    @property
    def note(self) -> str:
        """What it promises, in a sentence."""
        return (
            f"what is {self.threshold_db:.3g} dB louder in a band than all normal sound for two seconds is reported at once; "
            f"by what four fifths of that sound teach, the last fifth stays at least {MARGIN_DB:.3g} dB below"
        )


def lasting_frame(frames: F32) -> F32:
    """What each band of frames (m, n_bands), dB, reaches in three quarters of them: (n_bands,), dB."""
    return _reached(frames, LASTING)


def frequent_frame(frames: F32) -> F32:
    """What each band reaches in a quarter of them: no lasting frame passes it with bangs that take up half the time."""
    return _reached(frames, FREQUENT)


def frequent_frames(frames: F32, *, tick_frames: int) -> F32:
    """That of every two neighbouring ticks of frames (m, n_bands) that were heard without a hole: (n, n_bands), dB."""
    starts = range(0, len(frames) - N_TICKS * tick_frames + 1, tick_frames)
    rows = [frequent_frame(frames[start : start + N_TICKS * tick_frames]) for start in starts]
    return np.array(rows, np.float32).reshape(len(rows), frames.shape[1])


def excess_db(lasting: F32, ceiling_db: F32) -> float:
    """By how much the loudest band, against its ceiling, passes it, dB; below 0 where none does."""
    return float(np.max(lasting - ceiling_db))


def fit_fast(rows: F32, *, limits_hz: F64) -> Fast | None:
    """Learn from frequent frames of normal sound, rows (n, n_bands), dB, in order of time; None from fewer than 2.

    The ceiling is the loudest of each band, so that no state of the machine is too rare for it. The threshold lies
    `MARGIN_DB` over what each fifth of the sound has in excess of the ceiling of the others. `limits_hz` (n_bands + 1,)
    are the front end's.
    """
    if len(rows) < 2:
        return None
    if len(limits_hz) != rows.shape[1] + 1:
        raise ConfigError(f"limits_hz must hold {rows.shape[1] + 1} values, got {len(limits_hz)}")
    parts = np.array_split(rows, min(FOLDS, len(rows)))
    ceilings = [_ceiling(np.concatenate(parts[:i] + parts[i + 1 :]), limits_hz) for i in range(len(parts))]
    largest = max(float(np.max(part - ceiling)) for part, ceiling in zip(parts, ceilings, strict=True))
    return Fast(_ceiling(rows, limits_hz), round(max(LEAST_DB, largest + MARGIN_DB), 2))


def _reached(frames: F32, share: float) -> F32:
    rank = len(frames) - math.ceil(share * len(frames))  # from 0, of the smallest
    return np.asarray(np.partition(np.ascontiguousarray(frames.T), rank, axis=1)[:, rank])


def _ceiling(rows: F32, limits_hz: F64) -> F32:
    """The loudest of each band, but none more than 10 dB below the level at which white noise is as loud as all of them."""
    loudest = rows.max(axis=0).astype(np.float64)
    level_db = 10.0 * np.log10(np.average(10.0 ** (loudest / 10.0), weights=np.diff(limits_hz)))
    return np.asarray(np.maximum(loudest, level_db + QUIET_DB), np.float32)
