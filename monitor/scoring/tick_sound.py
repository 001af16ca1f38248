"""The sound of one tick in a segment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32, F64
from monitor.scoring.features import TickFrames
from monitor.scoring.front_end import FrontEndSpec


@dataclass(frozen=True)
class TickSound:
    """The frames (n_frames, n_bands), dB, and the samples of a valid tick.

    Sums (n_bands,) over the frames are rarely needed and computed on demand. `power` is the exponent of the front end.
    """

    start: int
    frames: F32
    samples: F32
    power: float

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.frames)

    @property
    def frame_sum(self) -> F64:
        """The sum of the frames in dB."""
        return np.asarray(self.frames.sum(axis=0, dtype=np.float64))

    @property
    def power_sum(self) -> F64:
        """The sum of power, also for a front end that computes magnitudes."""
        return np.asarray((10.0 ** (self.frames.astype(np.float64) * (0.2 / self.power))).sum(axis=0))


def tick_sound(tick: TickFrames, front_end: FrontEndSpec) -> TickSound:
    """The sound of a tick that has frames."""
    assert tick.frames is not None
    samples = tick.samples[: tick.n_frames * front_end.hop_length]
    return TickSound(tick.start, tick.frames[: tick.n_frames], samples, front_end.power)


def mean_frame(sounds: Sequence[TickSound]) -> F64:
    """The mean frame (n_bands,), dB, of one or more ticks."""
    return np.asarray(np.sum([one.frame_sum for one in sounds], axis=0) / sum(one.n_frames for one in sounds))
