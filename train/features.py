"""Features: frames of recordings, computed by the very front end that runs on the device, and the windows over them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.core.arrays import F32, F64
from monitor.core.errors import ConfigError, SourceError
from monitor.core.frames import stream_frames
from monitor.core.frontend import FrontEndSpec
from train.datasets import Piece

MIN_DEVIATION_DB = 0.1
_ROWS = 8192  # frames summed up at a time
_BLOCK_S = 10.0  # read at a time: a clip at once; frames do not depend on it


def stream_piece(piece: Piece, spec: FrontEndSpec, *, tick_frames: int) -> Iterator[F32]:
    """Whole frames (m, n_bands), float32, dB, of a piece, tick by tick."""
    blocks = piece.recording.blocks(block_s=_BLOCK_S, start_s=piece.start_s, stop_s=piece.stop_s)
    return stream_frames(blocks, spec, tick_frames=tick_frames)


def piece_frames(piece: Piece, spec: FrontEndSpec, *, tick_frames: int) -> F32:
    """All whole frames (m, n_bands), float32, dB, of a piece."""
    rows = list(stream_piece(piece, spec, tick_frames=tick_frames))
    return np.concatenate(rows) if rows else np.empty((0, spec.n_bands), np.float32)


class WindowSet:
    """All windows of many recordings, gathered by index; none spans two recordings.

    A recording's frames (m, n_bands), float32, are in memory or mapped from a file; they are not copied. Its windows begin
    at frames 0, hop_frames, 2 hop_frames and so on, as on the device.
    """

    def __init__(self, recordings: Sequence[F32], *, n_frames: int, hop_frames: int = 1) -> None:
        for name, value in (("n_frames", n_frames), ("hop_frames", hop_frames)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        self._recordings = [np.asarray(frames) for frames in recordings]  # mapped ones as plain arrays: faster to index
        if len({frames.shape[1] for frames in self._recordings}) > 1:
            sizes = sorted({frames.shape[1] for frames in self._recordings})
            raise ConfigError(f"recordings must have the same bands, got {', '.join(map(str, sizes))}")
        self._n_frames = n_frames
        self._hop_frames = hop_frames
        counts = [max(0, (len(frames) - n_frames) // hop_frames + 1) for frames in self._recordings]
        self._ends = np.cumsum(counts, dtype=np.intp)  # of each recording's windows, in the numbering of all
        self._begins = self._ends - counts

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def windows(self, which: NDArray[np.intp]) -> F32:
        """Windows (k, n_frames * n_bands), oldest frame first, by their indexes (k,) in 0..len - 1."""
        if len(which) and not (which.min() >= 0 and which.max() < len(self)):
            raise IndexError(f"windows must be in 0..{len(self) - 1}, got {which.min()}..{which.max()}")
        n_bands = self._recordings[0].shape[1] if self._recordings else 0
        out = np.empty((len(which), self._n_frames, n_bands), np.float32)
        recording = np.searchsorted(self._ends, which, side="right")
        first = (which - self._begins[recording]) * self._hop_frames
        # A slice a window: where there are many recordings, eight times as fast as gathering from one after the other.
        for row, index, start in zip(out, recording.tolist(), first.tolist(), strict=True):
            row[:] = self._recordings[index][start : start + self._n_frames]
        return out.reshape(len(which), self._n_frames * n_bands)

    def band_statistics(self) -> tuple[F64, F64]:
        """Mean and standard deviation (n_bands,), dB, of each band over all frames; no deviation is below 0.1 dB.

        Summed up in float64, chunk after chunk: T. Chan, G. Golub, R. LeVeque, Updating Formulae and a Pairwise Algorithm
        for Computing Sample Variances, 1979.
        """
        n = 0
        mean: F64 = np.zeros(1)
        squares: F64 = np.zeros(1)  # summed squared distances from the mean
        for chunk in self._chunks():
            values = chunk.astype(np.float64)
            part_mean = values.mean(axis=0)
            values -= part_mean
            share, apart = len(chunk) / (n + len(chunk)), part_mean - mean
            squares = squares + np.square(values, out=values).sum(axis=0) + apart**2 * n * share
            mean = mean + apart * share
            n += len(chunk)
        return mean, np.maximum(np.sqrt(squares / n), MIN_DEVIATION_DB)

    def range(self) -> tuple[float, float]:
        """Smallest and largest value, dB, over all frames."""
        extremes = np.array([(chunk.min(), chunk.max()) for chunk in self._chunks()])
        return float(extremes[:, 0].min()), float(extremes[:, 1].max())

    def _chunks(self) -> Iterator[F32]:
        if not any(len(frames) for frames in self._recordings):
            raise SourceError("recordings must hold at least one frame, got none that does")
        for frames in self._recordings:
            for first in range(0, len(frames), _ROWS):
                yield frames[first : first + _ROWS]
