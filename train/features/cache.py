"""Sound, decoded once on all cores, cached on disk as ticks and segment profiles, and mapped into memory when used.

`FOLDER/<front end>/` contains shards (`train.features.shard`) of about half an hour. The key of a piece is a hash of its
file's bytes, its channel and its times. The key of a front end is a hash of its parameters, the tick, the segment, and the code
and libraries that compute it. Files are never changed, so the folder may be deleted at any time. A killed run may leave a
hidden `.part` file, which is ignored. One hour at 16 kHz, hop 512 and 64 bands takes 29 MB, and profiles 2 MB.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import soundfile
import soxr

import monitor
from monitor.audio.recording import file_sha256
from monitor.scoring.front_end import FrontEndSpec
from train.datasets import Piece, workers_for
from train.datasets.clip import hash_of, hashes_of
from train.datasets.parallel import in_parallel
from train.features.frames import PieceFrames
from train.features.shard import FRAMES, INDEX, PROFILES, TICKS, Shard, StoredPiece, map_array, read_index, write_shard

_FORMAT = 3  # of a shard and its index
SHARD_S = 1800.0  # sound in a shard, unless one recording is longer


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/stethos/frames`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "stethos" / "frames"


def cached_frames(
    pieces: Sequence[Piece],
    spec: FrontEndSpec,
    *,
    tick_frames: int,
    segment_ticks: int | None = None,
    folder: Path | None = None,
    workers: int | None = None,
) -> list[PieceFrames]:
    """Frames of every piece, read-only and mapped from the cache; missing ones are computed first."""
    keys, stored = _stored(pieces, spec, tick_frames, segment_ticks, folder, workers)
    frames = {path: map_array(path, FRAMES) for path in {one.path for one in stored}}
    return [
        PieceFrames(tuple(frames[one.path][first : first + n] for first, n in one.rows["runs"]), one.rows["left_out"], key)
        for key, one in zip(keys, stored, strict=True)
    ]


def stored_pieces(
    pieces: Sequence[Piece],
    spec: FrontEndSpec,
    *,
    tick_frames: int,
    segment_ticks: int,
    folder: Path | None = None,
    workers: int | None = None,
) -> list[StoredPiece]:
    """Where the ticks and profiles of every piece are in the cache; missing ones are computed first."""
    return _stored(pieces, spec, tick_frames, segment_ticks, folder, workers)[1]


def _stored(
    pieces: Sequence[Piece],
    spec: FrontEndSpec,
    tick_frames: int,
    segment_ticks: int | None,
    folder: Path | None,
    workers: int | None,
) -> tuple[list[str], list[StoredPiece]]:
    """The key and the place of each piece."""
    front_end = (folder or default_folder()) / _front_end_key(spec, tick_frames, segment_ticks)
    hashes_of([piece.recording.path for piece in pieces])  # on all cores; a key asks for one
    keys = [_piece_key(piece) for piece in pieces]
    cached = _find(front_end, set(keys))
    missing = {key: piece for key, piece in zip(keys, pieces, strict=True) if key not in cached}
    if missing:
        front_end.mkdir(parents=True, exist_ok=True)
        workers = workers_for(missing.values()) if workers is None else workers
        shards = [
            Shard(path=front_end / name, pieces=some, spec=spec, tick_frames=tick_frames, segment_ticks=segment_ticks)
            for name, some in _shards(missing, workers=workers)
        ]
        for _ in in_parallel(write_shard, shards, workers=workers, bar="features"):
            pass
        cached |= _find(front_end, set(missing))
    return keys, [cached[key] for key in keys]


def _shards(missing: dict[str, Piece], *, workers: int) -> Iterator[tuple[str, tuple[tuple[str, Piece], ...]]]:
    """Group pieces into shards of about the same length, enough to keep all workers busy. Yields name and pieces."""
    limit_s = min(SHARD_S, sum(piece.seconds for piece in missing.values()) / workers)
    some: list[tuple[str, Piece]] = []
    length_s = 0.0
    for number, (key, piece) in enumerate(missing.items(), 1):
        some.append((key, piece))
        length_s += piece.seconds
        if length_s >= limit_s or number == len(missing):
            yield hashlib.sha256("".join(key for key, _ in some).encode()).hexdigest()[:32], tuple(some)
            some, length_s = [], 0.0


def _find(folder: Path, keys: set[str]) -> dict[str, StoredPiece]:
    """The cached ones of these keys."""
    found: dict[str, StoredPiece] = {}
    for index in sorted(folder.glob(f"*{INDEX}")):
        path = index.with_suffix("")
        try:
            rows = {key: row for key, row in read_index(path).items() if key in keys}
            for suffix in (FRAMES, TICKS, PROFILES) if rows else ():
                map_array(path, suffix)
        except (OSError, ValueError):
            continue  # truncated or deleted; computed again
        found |= {key: StoredPiece(path, row) for key, row in rows.items()}
    return found


def _front_end_key(spec: FrontEndSpec, tick_frames: int, segment_ticks: int | None) -> str:
    folder = Path(monitor.__path__[0])
    code = [file_sha256(path) for part in ("scoring", "audio", "explain") for path in sorted((folder / part).glob("*.py"))]
    libraries = [soxr.__version__, soundfile.__libsndfile_version__]
    ticks = {"tick_frames": tick_frames, "segment_ticks": segment_ticks}
    return _digest({"format": _FORMAT, "spec": asdict(spec), **ticks, "code": code, "libraries": libraries})


def _piece_key(piece: Piece) -> str:
    recording = piece.recording
    content = hash_of(recording.path) or recording.sha256()  # which raises the reason
    how = {"channel": recording.channel, "rate_hz": recording.sample_rate_hz}
    return _digest({"file": content, **how, "start_s": piece.start_s, "stop_s": piece.stop_s})


def _digest(content: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
