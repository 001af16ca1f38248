"""A session of `monitor learn` as a file: the frames and profiles of its ticks as plain arrays, without sound or pickle."""

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F32
from monitor.errors import SourceError
from monitor.explain.envelope import pooled_shape
from monitor.explain.profile import SegmentProfile
from monitor.learning.rescore import ProfiledTick, TickRun
from monitor.scoring.features import TickFrames
from monitor.scoring.quality import Quality
from monitor.scoring.scorer import ScorerSpec

SCHEMA = 1
MAX_BYTES = 64_000_000
_NO_SAMPLES: F32 = np.zeros(0, np.float32)
_Arrays = dict[str, NDArray[Any]]


def encode(streams: Sequence[TickRun], spec: ScorerSpec) -> bytes:
    """The content of the file. Frames are float16, with an error below 0.04 dB down to -100 dB."""
    ticks = [tick for stream in streams for tick in stream]
    reasons = sorted({tick.quality.reason for tick in ticks if tick.quality.reason is not None})
    code_of = {None: -1} | {reason: code for code, reason in enumerate(reasons)}
    frames = [tick.frames for tick in ticks if tick.frames is not None]
    profiles = [(at, tick.profile) for at, tick in enumerate(ticks) if isinstance(tick, ProfiledTick)]
    header = {"schema": SCHEMA, "heard_with": _recorded_with(spec), "reasons": reasons}
    arrays: _Arrays = {
        "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
        "stream": np.array([number for number, stream in enumerate(streams) for _ in stream]),
        "start": np.array([tick.start for tick in ticks]),
        "stop": np.array([tick.stop for tick in ticks]),
        "n_frames": np.array([tick.n_frames for tick in ticks]),
        "fresh": np.array([tick.fresh for tick in ticks]),
        "reason": np.array([code_of[tick.quality.reason] for tick in ticks]),
        "quality": np.array([astuple(tick.quality)[:-1] for tick in ticks]),
        "frames": np.array(frames),
        "portrait_at": np.array([at for at, _ in profiles]),
        "portrait_start": np.array([profile.start for _, profile in profiles]),
        "mean_db": np.array([profile.mean_db for _, profile in profiles]),
        "level_db": np.array([profile.level_db for _, profile in profiles]),
        "envelope_db": np.array([profile.envelope_db for _, profile in profiles]),
    }
    shapes = _shapes(spec, n=len(ticks), n_frames=len(frames), n_profiles=len(profiles))
    buffer = io.BytesIO()
    kept: _Arrays = {name: arrays[name].reshape(shape).astype(dtype) for name, (dtype, shape) in shapes.items()}
    np.savez(buffer, **(kept | {"header": arrays["header"]}))  # type: ignore[arg-type]
    return buffer.getvalue()


def decode(content: bytes, spec: ScorerSpec) -> list[list[TickFrames]]:
    """The streams of a session; SourceError if the file is damaged or was recorded with a different front end."""
    arrays = _load(content)
    header = _header(arrays.pop("header"))
    if header["heard_with"] != _recorded_with(spec):
        raise SourceError("was recorded with a different front end than the configured bundle's")
    n, n_frames, n_profiles = (len(arrays[name]) for name in ("stream", "frames", "portrait_at"))
    for name, (dtype, shape) in _shapes(spec, n=n, n_frames=n_frames, n_profiles=n_profiles).items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape or not (array.dtype == np.bool_ or np.isfinite(array).all()):
            raise SourceError(
                f"is damaged: {name} must be {shape} finite numbers, {np.dtype(dtype)}, got {array.shape}, {array.dtype}"
            )
    _check(arrays, len(header["reasons"]), spec)
    frames = iter(arrays["frames"].astype(np.float32))
    reasons = [*header["reasons"], None]  # index -1 is the last one
    columns = zip(
        *(arrays[name].tolist() for name in ("stream", "start", "stop", "n_frames", "fresh", "quality", "reason")), strict=True
    )
    numbers: list[int] = []
    ticks: list[TickFrames] = []
    for number, start, stop, length, fresh, quality, reason in columns:
        signal = Quality(*(*quality, reasons[reason]))
        numbers.append(number)
        ticks.append(TickFrames(start, stop, length, fresh, signal, next(frames) if reason < 0 else None, _NO_SAMPLES))
    for at, start, mean_db, level_db, envelope_db in zip(
        *(arrays[name] for name in ("portrait_at", "portrait_start", "mean_db", "level_db", "envelope_db")), strict=True
    ):
        profile = SegmentProfile(mean_db.astype(np.float64), level_db.astype(np.float64), envelope_db, int(start))
        ticks[at] = ProfiledTick(**vars(ticks[at]), profile=profile)
    return [[tick for _, tick in group] for _, group in groupby(zip(numbers, ticks, strict=True), key=lambda one: one[0])]


def halved(streams: Sequence[TickRun], spec: ScorerSpec) -> list[list[TickFrames]] | None:
    """Drop about every second minute of a session, so that the rest still covers its whole time; None if it is too short.

    The first tick after each dropped part is marked as fresh.
    """
    length = 6 * spec.segment_ticks
    parts = [(number, stream[at : at + length]) for number, stream in enumerate(streams) for at in range(0, len(stream), length)]
    if len(parts) < 10:
        return None
    kept = [(number, [replace(part[0], fresh=True), *part[1:]]) for number, part in parts[::2]]
    return [[tick for _, part in group for tick in part] for _, group in groupby(kept, key=lambda one: one[0])]


def _recorded_with(spec: ScorerSpec) -> dict[str, Any]:
    """The parameters on which frames and profiles depend."""
    return {"front_end": asdict(spec.front_end), "tick_frames": spec.tick_frames, "segment_ticks": spec.segment_ticks}


def _shapes(spec: ScorerSpec, *, n: int, n_frames: int, n_profiles: int) -> dict[str, tuple[type, tuple[int, ...]]]:
    n_bands = spec.front_end.n_bands
    return {
        **dict.fromkeys(("stream", "start", "stop", "n_frames", "reason"), (np.int64, (n,))),
        "fresh": (np.bool_, (n,)),
        "quality": (np.float64, (n, 5)),
        "frames": (np.float16, (n_frames, spec.tick_frames, n_bands)),
        **dict.fromkeys(("portrait_at", "portrait_start"), (np.int64, (n_profiles,))),
        **dict.fromkeys(("mean_db", "level_db"), (np.float32, (n_profiles, n_bands))),
        "envelope_db": (np.float32, (n_profiles, *pooled_shape(spec.front_end.sample_rate_hz))),
    }


def _load(content: bytes) -> _Arrays:
    """The arrays. Only their names and total size have been checked."""
    names = {"header", "portrait_at", "portrait_start", "mean_db", "level_db", "envelope_db", "frames", "quality", "fresh"}
    names |= {"stream", "start", "stop", "n_frames", "reason"}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise SourceError(f"must hold at most {MAX_BYTES:,} bytes, got more")
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            if set(loaded.files) != names:
                raise SourceError(f"is damaged: must hold {', '.join(sorted(names))}, got {', '.join(sorted(loaded.files))}")
            arrays = {name: np.asarray(loaded[name]) for name in names}
    except (OSError, ValueError, EOFError, TypeError, MemoryError, zipfile.BadZipFile) as error:
        raise SourceError(f"is damaged: {error}") from error
    if not all(arrays[name].ndim for name in names):
        raise SourceError("is damaged: an array has no rows")
    return arrays


def _header(array: NDArray[Any]) -> dict[str, Any]:
    try:
        header = json.loads(array.astype(np.uint8).tobytes())
        if header["schema"] != SCHEMA:
            raise SourceError(f"must be of schema {SCHEMA}, got {header['schema']!r}")
        reasons = header["reasons"]
        if not isinstance(reasons, list) or not all(isinstance(one, str) for one in reasons) or "heard_with" not in header:
            raise ValueError("no reasons")
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError("is damaged: its header is not one of monitor learn") from error
    return dict(header)


def _check(arrays: _Arrays, n_reasons: int, spec: ScorerSpec) -> None:
    """Raise SourceError unless each stream's ticks are in chronological order, and profiles and frames belong to its ticks."""
    stream, start, stop, reason = (arrays[name] for name in ("stream", "start", "stop", "reason"))
    step, n_frames, at = np.diff(stream), arrays["n_frames"], arrays["portrait_at"]
    is_valid = (
        len(stream) > 0
        and bool((step >= 0).all() and (start >= 0).all() and (stop > start).all())
        and bool((start[1:] >= stop[:-1])[step == 0].all())
        and bool(((n_frames >= 1) & (n_frames <= spec.tick_frames)).all())
        and bool(((reason >= -1) & (reason < n_reasons)).all())
        and int((reason == -1).sum()) == len(arrays["frames"])
        and bool(((at >= 0) & (at < len(stream))).all() and (np.diff(at) > 0).all() and (reason[at] == -1).all())
    )
    if not is_valid:
        raise SourceError("is damaged: its ticks are not in chronological order")
