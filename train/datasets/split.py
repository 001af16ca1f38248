"""Split recordings into those to train on and those held out for calibration."""

from dataclasses import dataclass

import numpy as np

from monitor.core.errors import SourceError
from monitor.sources.recording import Recording


@dataclass(frozen=True)
class Piece:
    """A recording, or the part of it between two of its times."""

    recording: Recording
    start_s: float = 0.0
    stop_s: float = float("inf")


def split(recordings: tuple[Recording, ...], *, held_out: float, seed: int) -> tuple[list[Piece], list[Piece]]:
    """Pieces to train on and pieces held out: whole recordings, drawn by seed.

    A single recording is cut in time, its last part held out.
    """
    if len(recordings) == 1:
        (recording,) = recordings
        if recording.duration_s is None:
            raise SourceError(f"{recording.path}: a single recording must say how long it is")
        cut_s = recording.duration_s * (1.0 - held_out)
        return [Piece(recording, stop_s=cut_s)], [Piece(recording, start_s=cut_s)]
    n_held_out = min(len(recordings) - 1, max(1, round(held_out * len(recordings))))
    order = np.random.default_rng(seed).permutation(len(recordings))
    train, test = np.sort(order[n_held_out:]), np.sort(order[:n_held_out])
    return [Piece(recordings[i]) for i in train], [Piece(recordings[i]) for i in test]
