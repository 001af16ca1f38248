"""A shard: the ticks of several pieces of sound as files of the cache, written once and then only mapped.

`.npy` has the frames, `.ticks` the ticks with their quality, `.profiles` the profiles of segments, and `.json`, which is written
last and makes the shard valid, the rows of each piece.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F32
from monitor.explain.envelope import pooled_shape
from monitor.explain.profile import Profiler, SegmentProfile
from monitor.scoring.features import TickFrames
from monitor.scoring.front_end import FrontEndSpec
from monitor.scoring.quality import Quality
from train.datasets import Piece
from train.features.frames import stream_piece

FRAMES, TICKS, PROFILES, INDEX = (".npy", ".ticks", ".profiles", ".json")
_TICK = np.dtype(
    [("start", "<i8"), ("stop", "<i8"), ("n_frames", "<i8"), ("fresh", "?"), ("quality", "<f8", (5,)), ("reason", "S16")]
)
_NO_SAMPLES: F32 = np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Pieces to compute into one shard. Without `segment_ticks` there are no profiles."""

    path: Path  # without suffix
    pieces: tuple[tuple[str, Piece], ...]  # by key
    spec: FrontEndSpec
    tick_frames: int
    segment_ticks: int | None


def write_shard(shard: Shard) -> None:
    """Compute and write a shard: each piece is decoded once."""
    index: dict[str, dict[str, Any]] = {}
    ticks: list[tuple[Any, ...]] = []
    profiles: list[SegmentProfile] = []
    n_frames = 0
    with _atomic_file(shard.path.with_suffix(FRAMES)) as file:
        _write_header(file, 0, shard.spec.n_bands)
        for key, piece in shard.pieces:
            runs: list[list[int]] = []
            left_out: Counter[str] = Counter()
            n_ticks, n_profiles = len(ticks), len(profiles)
            profiler = None if shard.segment_ticks is None else Profiler(shard.spec, segment_ticks=shard.segment_ticks)
            for tick in stream_piece(piece, shard.spec, tick_frames=shard.tick_frames):
                *quality, reason = astuple(tick.quality)
                ticks.append((tick.start, tick.stop, tick.n_frames, tick.fresh, quality, reason or ""))
                if profiler is not None:
                    profiles += profiler.push(tick)
                if tick.frames is None:
                    left_out[reason] += tick.n_frames
                    continue
                if tick.fresh:
                    runs.append([n_frames, 0])
                file.write(np.ascontiguousarray(tick.frames[: tick.n_frames], "<f4").data)
                runs[-1][1] += tick.n_frames
                n_frames += tick.n_frames
            profiles += [] if profiler is None else profiler.end()
            rows = {TICKS: [n_ticks, len(ticks)], PROFILES: [n_profiles, len(profiles)]}
            index[key] = {"runs": runs, "left_out": left_out, **rows}
        file.seek(0)
        _write_header(file, n_frames, shard.spec.n_bands)
    _write_array(shard.path.with_suffix(TICKS), np.array(ticks, _TICK))
    stored = [(one.start, one.mean_db, one.level_db, one.envelope_db) for one in profiles]
    _write_array(shard.path.with_suffix(PROFILES), np.array(stored, _profile_type(shard.spec)))
    with _atomic_file(shard.path.with_suffix(INDEX)) as file:
        file.write(json.dumps(index).encode())


@dataclass(frozen=True)
class StoredPiece:
    """The rows of a piece in the shard at `path`, which has no suffix."""

    path: Path
    rows: Mapping[str, Any]

    def ticks(self, *, tick_frames: int) -> Iterator[TickFrames]:
        """The ticks, without samples, as the front end gives them; a partial one is padded with zeros."""
        frames_of_all = map_array(self.path, FRAMES)
        at = self.rows["runs"][0][0] if self.rows["runs"] else 0
        for start, stop, n_frames, fresh, values, name in self._rows(TICKS).tolist():
            frames, reason = None, name.decode() or None
            if reason is None:
                frames = np.asarray(frames_of_all[at : at + n_frames])
                frames = np.pad(frames, ((0, tick_frames - n_frames), (0, 0))) if n_frames < tick_frames else frames
                at += n_frames
            yield TickFrames(start, stop, n_frames, fresh, Quality(*(*values, reason)), frames, _NO_SAMPLES)

    def profiles(self) -> list[SegmentProfile]:
        """The profiles of its segments, in memory."""
        rows = np.array(self._rows(PROFILES))
        return [SegmentProfile(row["mean_db"], row["level_db"], row["envelope_db"], int(row["start"])) for row in rows]

    def _rows(self, suffix: str) -> NDArray[Any]:
        first, stop = self.rows[suffix]
        return map_array(self.path, suffix)[first:stop]


def map_array(path: Path, suffix: str) -> NDArray[Any]:
    """One of a shard's arrays; OSError or ValueError if it is missing or damaged."""
    return np.asarray(np.load(path.with_suffix(suffix), mmap_mode="r", allow_pickle=False))


def read_index(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of each piece by key; OSError or ValueError if the index is missing or damaged."""
    return dict(json.loads(path.with_suffix(INDEX).read_bytes()))


def _profile_type(spec: FrontEndSpec) -> np.dtype[np.void]:
    bands, shape = (spec.n_bands,), pooled_shape(spec.sample_rate_hz)
    return np.dtype([("start", "<i8"), ("mean_db", "<f8", bands), ("level_db", "<f8", bands), ("envelope_db", "<f4", shape)])


def _write_array(path: Path, rows: NDArray[Any]) -> None:
    with _atomic_file(path) as file:
        np.lib.format.write_array(file, rows, allow_pickle=False)


def _write_header(file: BinaryIO, n_frames: int, n_bands: int) -> None:
    """The .npy header; NumPy leaves room in it for the number of rows to grow."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (n_frames, n_bands)})


@contextmanager
def _atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name only when it is complete and on disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
