"""`report/cross_fitted.npz`: cross-fitted scores of a bundle's training recordings, by statistics fitted without them."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from monitor.errors import BundleError
from monitor.learning.thresholds import HeldOut
from monitor.scoring.fast_path import Fast
from train.datasets import Clip

CROSS_FITTED = "report/cross_fitted.npz"
_MAX_BYTES = 1 << 28  # some 2,000 hours of sound
_SPANS = ("names", "sha256", "start_s", "stop_s", "file_scores", "segment_counts")
_SCORES = ("unit_scores", "tick_scores", "tick_levels_dbfs", "sequence_scores", "segment_scores", "segment_stops_s")
_NUMBERS = ("hours", "n_recordings", "n_learned", "drift", "channel")
_FAST = ("fast_ceiling_db", "fast_threshold_db")


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A training recording, or the part of one that lies in one fold, with its scores.

    `segments` contains the end (s, from the file's start) and the score of each full segment. For a recording shorter
    than a segment but longer than half of one, it contains the score of the whole recording.
    """

    name: str  # within the data set, as in the split lists
    sha256: str = ""  # of the file
    start_s: float = 0.0
    stop_s: float = math.inf
    score: float | None = None
    segments: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CrossFitted:
    """All stretches, and the data for a calibration. `held_out.frequent` is empty; `fast` was fitted to it."""

    stretches: tuple[Stretch, ...]
    held_out: HeldOut
    fast: Fast | None
    channel: int | None  # the recordings' channel, from 1; None: the mean of all

    @property
    def names(self) -> frozenset[str]:
        """The names of the training recordings."""
        return frozenset(one.name for one in self.stretches)

    @property
    def sha256(self) -> frozenset[str]:
        """The hashes of their files."""
        return frozenset(one.sha256 for one in self.stretches)

    def stretches_of(self, name: str, sha256: str) -> tuple[Stretch, ...]:
        """The stretches of a file; of files with the same bytes, those of the one with this name. Empty if there are none."""
        same = [one for one in self.stretches if one.sha256 == sha256]
        names = [one.name for one in same]
        chosen = name if name in names else names[0] if names else ""
        return tuple(one for one in same if one.name == chosen)

    def is_channel(self, clip: Clip, channel: int | None) -> bool:
        """Whether `channel` of a training clip was trained on."""
        return clip.file_channel is not None or channel == self.channel


def write_cross_fitted(cross_fitted: CrossFitted) -> bytes:
    """The bytes of `report/cross_fitted.npz`; the same scores give the same bytes."""
    held_out, stretches = cross_fitted.held_out, cross_fitted.stretches
    segments = [segment for one in stretches for segment in one.segments]
    arrays: dict[str, Any] = {
        "names": np.array([one.name for one in stretches]),
        "sha256": np.array([one.sha256 for one in stretches]),
        "start_s": np.array([one.start_s for one in stretches]),
        "stop_s": np.array([one.stop_s for one in stretches]),
        "file_scores": np.array([math.nan if one.score is None else one.score for one in stretches]),
        "segment_counts": np.array([len(one.segments) for one in stretches]),
        "segment_stops_s": np.array([stop_s for stop_s, _ in segments]),
        "segment_scores": np.array([score for _, score in segments]),
        "sequence_counts": np.array([len(one) for one in held_out.sequences]),
        "sequence_scores": held_out.segment_scores,
        "unit_scores": held_out.unit_scores,
        "tick_scores": held_out.tick_scores,
        "tick_levels_dbfs": held_out.tick_levels_dbfs,
        **{name: np.array(getattr(held_out, name), np.float64) for name in _NUMBERS[:-1]},
        "channel": np.array(cross_fitted.channel or 0, np.float64),
    }
    if cross_fitted.fast is not None:
        arrays |= {"fast_ceiling_db": cross_fitted.fast.ceiling_db, "fast_threshold_db": np.array(cross_fitted.fast.threshold_db)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def read_cross_fitted(folder: Path) -> CrossFitted | None:
    """The cross-fitted scores of the bundle in `folder`; None where there are none. BundleError names what is damaged."""
    path = folder / CROSS_FITTED
    if not path.is_file():
        return None
    try:
        return _checked(_load(path))
    except (OSError, ValueError, TypeError, EOFError, MemoryError, BadZipFile) as error:
        raise BundleError(f"{path}: cannot be read: {error}") from error


def _load(path: Path) -> dict[str, np.ndarray]:
    with ZipFile(path) as members:
        if (size := sum(member.file_size for member in members.infolist())) > _MAX_BYTES:
            raise ValueError(f"must hold at most {_MAX_BYTES} bytes, got {size}")
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, NpzFile):
            raise ValueError("must be an archive of arrays, got a single array")
        expected = {*_SPANS, *_SCORES, *_NUMBERS, "sequence_counts", *(_FAST if _FAST[0] in archive.files else ())}
        if differing := expected.symmetric_difference(archive.files):
            raise ValueError(f"must hold {', '.join(sorted(expected))}, got others or not all: {', '.join(sorted(differing))}")
        return {name: archive[name] for name in expected}


def _checked(arrays: Mapping[str, np.ndarray]) -> CrossFitted:
    """Check the arrays; ValueError names one that does not fit the others."""

    def check(fits: bool, name: str, what: str) -> None:
        if not fits:
            raise ValueError(f"{name} must be {what}, got {arrays[name].dtype} {arrays[name].shape}")

    n = len(arrays["names"]) if arrays["names"].ndim == 1 else 0
    for name in _SPANS:
        kind = "U" if name in ("names", "sha256") else "iu" if name == "segment_counts" else "f"
        check(arrays[name].shape == (n,) and arrays[name].dtype.kind in kind, name, f"one value for each of {n} recordings")
    for name in (*_SCORES, *_FAST[:1]):
        if name in arrays:
            check(arrays[name].ndim == 1 and arrays[name].dtype.kind == "f", name, "a list of numbers")
            check(bool(np.isfinite(arrays[name]).all()), name, "finite")
    for name in (*_NUMBERS, *_FAST[1:]):
        if name in arrays:
            check(arrays[name].shape == () and arrays[name].dtype.kind == "f", name, "a number")
            check(0.0 <= float(arrays[name]) < math.inf, name, "0 or more")
    counts = arrays["sequence_counts"]
    check(counts.ndim == 1 and counts.dtype.kind in "iu", "sequence_counts", "a list of whole numbers")
    for name, values in (("segment_counts", "segment_scores"), ("sequence_counts", "sequence_scores")):
        fits = bool((arrays[name] >= 0).all()) and int(arrays[name].sum()) == len(arrays[values])
        check(fits, values, f"as many as {name} says ({arrays[name].sum()})")
    check(len(arrays["segment_stops_s"]) == len(arrays["segment_scores"]), "segment_stops_s", "one for each segment")
    for name in ("file_scores", "unit_scores", "sequence_scores", "segment_scores", "tick_scores"):
        check(bool((arrays[name][~np.isnan(arrays[name])] >= 0.0).all()), name, "0 or more")
    return _rebuilt(arrays)


def _rebuilt(arrays: Mapping[str, np.ndarray]) -> CrossFitted:
    segments = list(zip(arrays["segment_stops_s"].tolist(), arrays["segment_scores"].tolist(), strict=True))
    ends = np.cumsum(arrays["segment_counts"])
    columns = (arrays[name].tolist() for name in _SPANS)
    stretches = tuple(
        Stretch(
            name=name,
            sha256=sha256,
            start_s=start_s,
            stop_s=stop_s,
            score=None if math.isnan(score) else score,
            segments=tuple(segments[end - n : end]),
        )
        for (name, sha256, start_s, stop_s, score, n), end in zip(zip(*columns, strict=True), ends, strict=True)
    )
    numbers = {name: float(arrays[name]) for name in _NUMBERS}
    held_out = HeldOut(
        sequences=tuple(np.split(arrays["sequence_scores"], np.cumsum(arrays["sequence_counts"])[:-1])),
        unit_scores=arrays["unit_scores"],
        file_scores=arrays["file_scores"][~np.isnan(arrays["file_scores"])],
        hours=numbers["hours"],
        n_recordings=int(numbers["n_recordings"]),
        n_learned=int(numbers["n_learned"]),
        drift=numbers["drift"],
        tick_scores=arrays["tick_scores"],
        tick_levels_dbfs=arrays["tick_levels_dbfs"],
    )
    fast = Fast(arrays["fast_ceiling_db"], float(arrays["fast_threshold_db"])) if "fast_ceiling_db" in arrays else None
    return CrossFitted(stretches=stretches, held_out=held_out, fast=fast, channel=int(numbers["channel"]) or None)
