"""Convert frames that were computed elsewhere to ticks for a scorer."""

import numpy as np

from monitor.arrays import F32
from monitor.scoring.features import TickFrames
from monitor.scoring.quality import Quality

SOUND = Quality(rms_dbfs=-20.0, peak=0.5, dc=0.0, clipped_fraction=0.0, zero_fraction=0.0, reason=None)


def frame_ticks(frames: F32, *, tick_frames: int, is_fresh: bool = True) -> list[TickFrames]:
    """Frames (m, n_bands), dB, as a stream of ticks, or as the continuation of a stream if not `is_fresh`.

    Sample indexes count frames here. Only the age of a segment's ticks depends on them.
    """
    ticks = []
    for start in range(0, len(frames), tick_frames):
        part = frames[start : start + tick_frames]
        padded = np.zeros((tick_frames, frames.shape[1]), np.float32)
        padded[: len(part)] = part
        samples = np.empty(0, np.float32)
        ticks.append(TickFrames(start, start + len(part), len(part), is_fresh and start == 0, SOUND, padded, samples))
    return ticks
