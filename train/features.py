"""Features: frames of recordings, computed by the very front end that runs on the device."""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from monitor.core.arrays import F32, F64
from monitor.core.frames import stream_frames
from monitor.core.frontend import FrontEndSpec
from train.datasets import Piece


def piece_frames(piece: Piece, spec: FrontEndSpec, *, tick_frames: int) -> F32:
    """All whole frames (m, n_mels), float32, dB, of a piece."""
    blocks = piece.recording.blocks(start_s=piece.start_s, stop_s=piece.stop_s)
    rows = list(stream_frames(blocks, spec, tick_frames=tick_frames))
    return np.concatenate(rows) if rows else np.empty((0, spec.n_mels), np.float32)


class WindowSet:
    """All windows of many recordings, gathered by index; none spans two recordings."""

    def __init__(self, recordings: Sequence[F32], *, n_frames: int) -> None:
        self._frames = np.concatenate(recordings)
        self._n_frames = n_frames
        lengths = np.array([len(frames) for frames in recordings])
        firsts = np.cumsum(lengths) - lengths
        runs = [first + np.arange(max(0, n - n_frames + 1)) for first, n in zip(firsts, lengths, strict=True)]
        self._starts = np.concatenate(runs)

    def __len__(self) -> int:
        return len(self._starts)

    def windows(self, which: np.typing.NDArray[np.intp]) -> F32:
        """Windows (k, n_frames * n_mels), oldest frame first, by their indexes (k,)."""
        rows = self._starts[which, None] + np.arange(self._n_frames)
        return self._frames[rows].reshape(len(which), -1)

    def band_statistics(self) -> tuple[F64, F64]:
        """Mean and standard deviation (n_mels,), dB, of each band over all frames; no deviation is below 0.1 dB."""
        mean = self._frames.mean(axis=0, dtype=np.float64)
        return mean, np.maximum(self._frames.std(axis=0, dtype=np.float64), 0.1)


def collect(pieces: Sequence[Piece], spec: FrontEndSpec, *, tick_frames: int) -> list[F32]:
    """The frames of all pieces, with a progress bar."""
    bar = tqdm(pieces, desc="features", unit="file", disable=None, leave=False)
    return [piece_frames(piece, spec, tick_frames=tick_frames) for piece in bar]
