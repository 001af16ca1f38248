"""Frames of recordings, computed by the device's front end, and the windows over them."""

import mmap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F32, F64
from monitor.errors import ConfigError, SourceError
from monitor.scoring.fast_path import frequent_frames
from monitor.scoring.features import TickFrames
from monitor.scoring.frames import scorable_frames
from monitor.scoring.front_end import FrontEndSpec
from train.datasets import Piece

MIN_DEVIATION_DB = 0.1
_ROWS = 8192  # frames summed up at a time
_TICKS = 256  # searched at a time
_STATM = Path("/proc/self/statm")
_MAX_MAPPED = 384 << 20  # bytes of mapped files that may stay in memory
_BLOCK_S = 10.0  # read at a time; frames do not depend on it


@dataclass(frozen=True)
class PieceFrames:
    """The frames (m, n_bands), float32, dB, of a piece, in runs without a gap.

    A run ends where the device would not score. `left_out` counts the frames of such ticks by reason (silent, clipped, …).
    `key` identifies the sound (`train.features.cache`): the file's bytes, the channel and the times.
    """

    runs: tuple[F32, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    key: str = ""


def stream_piece(piece: Piece, spec: FrontEndSpec, *, tick_frames: int) -> Iterator[TickFrames]:
    """Frames of a piece, tick by tick."""
    blocks = piece.recording.blocks(block_s=_BLOCK_S, start_s=piece.start_s, stop_s=piece.stop_s)
    return scorable_frames(blocks, spec, tick_frames=tick_frames)


def piece_frames(piece: Piece, spec: FrontEndSpec, *, tick_frames: int) -> PieceFrames:
    """All frames of a piece."""
    runs: list[list[F32]] = []
    left_out: Counter[str] = Counter()
    for tick in stream_piece(piece, spec, tick_frames=tick_frames):
        if tick.frames is None:
            left_out[str(tick.quality.reason)] += tick.n_frames
        elif tick.fresh:
            runs.append([tick.frames[: tick.n_frames]])
        else:
            runs[-1].append(tick.frames[: tick.n_frames])
    return PieceFrames(tuple(np.concatenate(run) for run in runs), dict(left_out))


def left_out_s(pieces: Iterable[PieceFrames], spec: FrontEndSpec) -> dict[str, float]:
    """Seconds of sound left out of all pieces, by reason."""
    frames: Counter[str] = Counter()
    for piece in pieces:
        frames.update(piece.left_out)
    return {reason: n * spec.hop_length / spec.sample_rate_hz for reason, n in sorted(frames.items())}


def seconds_by_reason(seconds: Mapping[str, float]) -> str:
    """Seconds left out, as text."""
    return ", ".join(f"{value:.0f} s {reason.replace('_', ' ')}" for reason, value in sorted(seconds.items())) or "nothing"


class WindowSet:
    """All windows of many runs of frames, gathered by index; none spans two runs.

    A run (m, n_bands), float32, is in memory or mapped from a file; it is not copied, and mapped pages are released on
    the way, so that memory does not grow with hours of sound. Its windows begin at frames 0, hop_frames, 2 hop_frames and
    so on, as on the device.
    """

    def __init__(self, runs: Sequence[F32], *, n_frames: int, hop_frames: int = 1) -> None:
        for name, value in (("n_frames", n_frames), ("hop_frames", hop_frames)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        self._runs = [np.asarray(frames) for frames in runs]  # mapped ones as plain arrays: faster to index
        if len({frames.shape[1] for frames in self._runs}) > 1:
            sizes = sorted({frames.shape[1] for frames in self._runs})
            raise ConfigError(f"runs must have the same bands, got {', '.join(map(str, sizes))}")
        mappings = {id(mapping): mapping for frames in self._runs if (mapping := _mapping(frames)) is not None}
        small = sum(map(len, mappings.values())) <= _MAX_MAPPED
        self._mappings = () if small else tuple(mappings.values())  # whose pages are released
        self._mapped = _mapped_bytes()  # after the last release
        self._n_frames = n_frames
        self._hop_frames = hop_frames
        counts = [max(0, (len(frames) - n_frames) // hop_frames + 1) for frames in self._runs]
        self._ends = np.cumsum(counts, dtype=np.intp)  # of each run's windows, in the numbering of all
        self._begins = self._ends - counts

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def windows(self, which: NDArray[np.intp]) -> F32:
        """Windows (k, n_frames * n_bands), oldest frame first, by their indexes (k,) in 0..len - 1."""
        if len(which) and not (which.min() >= 0 and which.max() < len(self)):
            raise IndexError(f"windows must be in 0..{len(self) - 1}, got {which.min()}..{which.max()}")
        n_bands = self._runs[0].shape[1] if self._runs else 0
        out = np.empty((len(which), self._n_frames, n_bands), np.float32)
        run = np.searchsorted(self._ends, which, side="right")
        first = (which - self._begins[run]) * self._hop_frames
        # One slice per window is eight times as fast as gathering run by run where there are many runs.
        for row, index, start in zip(out, run.tolist(), first.tolist(), strict=True):
            row[:] = self._runs[index][start : start + self._n_frames]
        self._release_pages()
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

    def frequent_frames(self, *, tick_frames: int) -> F32:
        """Rows (n, n_bands), dB, of all runs, for the fast path (`monitor.scoring.fast_path.frequent_frames`)."""
        rows = []
        for frames in self._runs:
            for first in range(0, len(frames), _TICKS * tick_frames):
                part = frames[first : first + (_TICKS + 1) * tick_frames]  # the last tick is the first of the next part
                rows.append(frequent_frames(part, tick_frames=tick_frames))
                self._release_pages()
        return np.concatenate(rows)

    def range(self) -> tuple[float, float]:
        """Smallest and largest value, dB, over all frames."""
        extremes = np.array([(chunk.min(), chunk.max()) for chunk in self._chunks()])
        return float(extremes[:, 0].min()), float(extremes[:, 1].max())

    def _chunks(self) -> Iterator[F32]:
        if not any(len(frames) for frames in self._runs):
            raise SourceError("recordings must hold at least one frame, got none that does")
        for frames in self._runs:
            for first in range(0, len(frames), _ROWS):
                yield frames[first : first + _ROWS]
                self._release_pages()

    def _release_pages(self) -> None:
        """Release mapped pages before they are too many; they stay in the kernel's page cache."""
        if self._mappings and _mapped_bytes() - self._mapped > _MAX_MAPPED:
            for mapping in self._mappings:
                mapping.madvise(mmap.MADV_DONTNEED)
            self._mapped = _mapped_bytes()


def _mapped_bytes() -> int:
    """Bytes of all mapped files resident in this process, as counted by Linux."""
    return int(_STATM.read_text().split()[2]) * mmap.PAGESIZE if _STATM.exists() else 0


def _mapping(frames: F32) -> mmap.mmap | None:
    """The mapped file that an array is a part of."""
    base: object = frames
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) and hasattr(base, "madvise") else None
