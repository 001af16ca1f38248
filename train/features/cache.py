"""Frames of recordings, computed once on all cores, cached on disk, and mapped into memory when used.

`FOLDER/<front end>/<shard>.npy` contains the frames of several recordings (frames, n_bands), float32, dB. Its index
`<shard>.json` maps each piece to its runs (first frame, number of frames) and to the frames left out, by reason. The key of
a piece is a hash of its file's bytes, its channel and its times. The key of a front end is a hash of its parameters, the
tick, and the code and libraries that compute it. Files are never changed, so the folder may be deleted at any time. A killed
run may leave a hidden `.part` file, which is ignored. One hour at 16 kHz, hop 512 and 64 bands takes 29 MB.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr

import monitor
from monitor.audio.recording import file_sha256
from monitor.scoring.front_end import FrontEndSpec
from train.datasets import Piece, workers_for
from train.datasets.parallel import in_parallel, n_cores
from train.features.frames import PieceFrames, stream_piece

_FORMAT = 2  # of a shard and its index
SHARD_S = 1800.0  # sound in a shard, unless one recording is longer


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Frames to compute into one file."""

    path: Path  # without suffix
    pieces: tuple[tuple[str, Piece], ...]  # by key
    spec: FrontEndSpec
    tick_frames: int


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/stethos/frames`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "stethos" / "frames"


def cached_frames(
    pieces: Sequence[Piece], spec: FrontEndSpec, *, tick_frames: int, folder: Path | None = None, workers: int | None = None
) -> list[PieceFrames]:
    """Frames of every piece, read-only and mapped from the cache; missing ones are computed first."""
    front_end = (folder or default_folder()) / _front_end_key(spec, tick_frames)
    with ThreadPoolExecutor(n_cores()) as threads:
        keys = list(threads.map(_piece_key, pieces))
    cached = _map(front_end, set(keys))
    missing = {key: piece for key, piece in zip(keys, pieces, strict=True) if key not in cached}
    if missing:
        front_end.mkdir(parents=True, exist_ok=True)
        if workers is None:
            workers = workers_for(missing.values())
        shards = list(_shards(missing, front_end, spec, tick_frames=tick_frames, workers=workers))
        for _ in in_parallel(_write, shards, workers=workers, bar="features"):
            pass
        cached |= _map(front_end, set(missing))
    return [cached[key] for key in keys]


def _shards(missing: dict[str, Piece], folder: Path, spec: FrontEndSpec, *, tick_frames: int, workers: int) -> Iterator[Shard]:
    """Group pieces into shards of about the same length, enough to keep all workers busy."""
    limit_s = min(SHARD_S, sum(piece.seconds for piece in missing.values()) / workers)
    some: list[tuple[str, Piece]] = []
    length_s = 0.0
    for number, (key, piece) in enumerate(missing.items(), 1):
        some.append((key, piece))
        length_s += piece.seconds
        if length_s >= limit_s or number == len(missing):
            name = hashlib.sha256("".join(key for key, _ in some).encode()).hexdigest()[:32]
            yield Shard(path=folder / name, pieces=tuple(some), spec=spec, tick_frames=tick_frames)
            some, length_s = [], 0.0


def _write(shard: Shard) -> None:
    """Compute and write a shard; its index is written last and makes it valid."""
    index: dict[str, dict[str, Any]] = {}
    n_frames = 0
    with _atomic_file(shard.path.with_suffix(".npy")) as file:
        _write_header(file, 0, shard.spec.n_bands)
        for key, piece in shard.pieces:
            runs: list[list[int]] = []
            left_out: Counter[str] = Counter()
            for tick in stream_piece(piece, shard.spec, tick_frames=shard.tick_frames):
                if tick.frames is None:
                    left_out[str(tick.quality.reason)] += tick.n_frames
                    continue
                if tick.fresh:
                    runs.append([n_frames, 0])
                file.write(np.ascontiguousarray(tick.frames[: tick.n_frames], "<f4").data)
                runs[-1][1] += tick.n_frames
                n_frames += tick.n_frames
            index[key] = {"runs": runs, "left_out": left_out}
        file.seek(0)
        _write_header(file, n_frames, shard.spec.n_bands)
    with _atomic_file(shard.path.with_suffix(".json")) as file:
        file.write(json.dumps(index).encode())


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


def _map(folder: Path, keys: set[str]) -> dict[str, PieceFrames]:
    """The cached frames of these keys."""
    found: dict[str, PieceFrames] = {}
    for index in sorted(folder.glob("*.json")):
        try:
            places = {key: place for key, place in json.loads(index.read_bytes()).items() if key in keys}
            if not places:
                continue
            frames = np.load(index.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            continue  # truncated or deleted; computed again
        for key, place in places.items():
            runs = tuple(np.asarray(frames[first : first + n]) for first, n in place["runs"])
            found[key] = PieceFrames(runs, place["left_out"], key)
    return found


def _front_end_key(spec: FrontEndSpec, tick_frames: int) -> str:
    folder = Path(monitor.__path__[0])
    code = [file_sha256(path) for part in ("scoring", "audio") for path in sorted((folder / part).glob("*.py"))]
    libraries = [soxr.__version__, soundfile.__libsndfile_version__]
    return _digest({"format": _FORMAT, "spec": asdict(spec), "tick_frames": tick_frames, "code": code, "libraries": libraries})


def _piece_key(piece: Piece) -> str:
    recording = piece.recording
    how = {"channel": recording.channel, "rate_hz": recording.sample_rate_hz}
    return _digest({"file": recording.sha256(), **how, "start_s": piece.start_s, "stop_s": piece.stop_s})


def _digest(content: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
