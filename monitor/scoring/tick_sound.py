"""The sound of one tick in a segment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32, F64
from monitor.scoring.features import TickFrames
from monitor.scoring.front_end import FrontEndSpec


@dataclass(frozen=True)
class TickSound:
    """The frames (n_frames, n_bands), dB, and the samples of a valid tick."""

    start: int
    frames: F32
    samples: F32

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.frames)

    @property
    def frame_sum(self) -> F64:
        """The sum (n_bands,) of the frames in dB."""
        return np.asarray(self.frames.sum(axis=0, dtype=np.float64))


def tick_sound(tick: TickFrames, front_end: FrontEndSpec) -> TickSound:
    """The sound of a tick that has frames."""
    assert tick.frames is not None
    samples = tick.samples[: tick.n_frames * front_end.hop_length]
    return TickSound(tick.start, tick.frames[: tick.n_frames], samples)


def mean_frame(sounds: Sequence[TickSound]) -> F64:
    """The mean frame (n_bands,), dB, of one or more ticks."""
    return np.asarray(np.sum([one.frame_sum for one in sounds], axis=0) / sum(one.n_frames for one in sounds))
