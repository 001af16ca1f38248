"""Common parts of learning and calibration on the device: checks, outliers, thresholds, and the adapted bundle."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import Any

import numpy as np

from monitor.arrays import F64, Bool
from monitor.bundle.load import Bundle, statistics_of
from monitor.bundle.manifest import DetectorSpec, Manifest
from monitor.bundle.write import MODEL, STATISTICS, amended, file_ref
from monitor.errors import SourceError
from monitor.learning.false_alarms import NormalScores
from monitor.learning.outliers import drop_ticks, outlier_ticks
from monitor.learning.report_text import duration
from monitor.learning.rescore import RescoreResult, TickRun, cut, mean_frame_of
from monitor.learning.thresholds import (
    WARNINGS_PER_WEEK,
    Calibration,
    HeldOut,
    Thresholds,
    make_calibration,
    predicted_thresholds,
    prior_of,
)
from monitor.scoring.fast_path import Fast
from monitor.scoring.golden import golden_score
from monitor.scoring.scorer import ScorerSpec

N_SIMILAR = 5  # a block is kept if this many others are similar to it
MAX_DISTANCE = 4.0  # between similar blocks, in units of the usual difference between consecutive blocks
MIN_SPREAD_DB = 0.5  # lower limit of that unit
MAX_UNUSABLE = 0.1  # of the ticks
MAX_LEFT_OUT = 0.1  # of the sound, dropped as outliers


@dataclass(frozen=True)
class AdaptedBundle:
    """A bundle to be written, and messages for the user, shortest last."""

    files: Mapping[str, bytes]
    manifest: Manifest
    messages: tuple[str, ...]


def check_sound(streams: Sequence[TickRun], spec: ScorerSpec, *, min_s: float) -> None:
    """Raise SourceError if too little of the sound, or too small a part of it, can be scored."""
    shortest = (spec.segment_ticks + 1) // 2
    ticks = [tick for stream in streams if len(stream) >= shortest for tick in stream]
    refused = [tick.quality.reason for tick in ticks if tick.quality.reason is not None]
    usable_s = (len(ticks) - len(refused)) * spec.tick_s
    if len(ticks) < sum(map(len, streams)) and usable_s < min_s:
        length, got = (duration(seconds / 3600) for seconds in (shortest * spec.tick_s, usable_s))
        raise SourceError(f"at least {duration(min_s / 3600)} of recordings of {length} or longer are needed, got {got}")
    if len(refused) > MAX_UNUSABLE * len(ticks):
        why = max(set(refused), key=refused.count)
        raise SourceError(
            f"{len(refused) / len(ticks):.0%} of the audio is unusable, mostly {why} (at most {MAX_UNUSABLE:.0%} allowed)"
        )
    if usable_s < min_s:
        raise SourceError(f"at least {duration(min_s / 3600)} of usable sound is needed, got {duration(usable_s / 3600)}")


def drop_outlier_blocks(
    streams: Sequence[TickRun], manifest: Manifest, *, max_share: float
) -> tuple[list[list[TickRun]], list[str]]:
    """Drop outlier blocks of time. Returns the remaining pieces of each stream, and messages about the dropped blocks.

    SourceError if more than the fraction `max_share` are outliers.
    """
    length = max(manifest.segment_ticks, manifest.rule.raise_n)
    blocks = [(number, block) for number, stream in enumerate(streams) for block in cut(stream, length=length)]
    usable = [(number, block, frame) for number, block in blocks if (frame := mean_frame_of(block)) is not None]
    per_recording = len(blocks) // len(streams)
    n_similar = min(N_SIMILAR, len(usable) // 4, per_recording - 1 if per_recording > 1 else N_SIMILAR)
    far = _are_outliers(np.array([frame for *_, frame in usable]), n_similar)
    outliers = [(number, block) for (number, block, _), is_far in zip(usable, far, strict=True) if is_far]
    if not outliers:
        return [[stream] for stream in streams], []
    of = [f" of recording {number + 1}" if len(streams) > 1 else "" for number, _ in outliers]
    names = _spans([block for _, block in outliers], manifest, of=of)
    if len(outliers) > max_share * len(usable):
        raise SourceError(
            f"{len(outliers)} of {len(usable)} blocks of sound differ from the rest, so the machine did not run as usual: {names}"
        )
    dropped = {id(block) for _, block in outliers}
    pieces: list[list[TickRun]] = [[] for _ in streams]
    for (number, is_kept), run in groupby(blocks, key=lambda one: (one[0], id(one[1]) not in dropped)):
        if is_kept:
            pieces[number].append([tick for _, block in run for tick in block])
    return pieces, [f"dropped as outliers: {names}"]


def drop_outlier_ticks(
    recordings: list[list[TickRun]], scored: Iterable[tuple[Sequence[TickRun], RescoreResult]], manifest: Manifest
) -> tuple[list[list[TickRun]], list[str]]:
    """Drop isolated outliers, given the scores of all pieces. Returns the remaining recordings and messages about the rest."""
    found = outlier_ticks(recordings, scored, manifest.rule, segment_ticks=manifest.segment_ticks)
    if not found:
        return recordings, []
    found = sorted(found, key=lambda one: (one[0], one[1][0].start))
    pieces = [piece for _, piece in found]
    of = [f" of recording {number + 1}" for number, _ in found] if len(recordings) > 1 else []
    kept = [drop_ticks(of_one, pieces, segment_ticks=manifest.segment_ticks) for of_one in recordings]
    return kept, [f"left out as isolated outliers: {_spans(pieces, manifest, of=of)}"]


def _are_outliers(frames: F64, n_similar: int) -> Bool:
    """A mask of the blocks that are similar to fewer than `n_similar` others; `frames` (n, n_bands) are in chronological order.

    A machine may have several states. Sound that lasts for two minutes, or for a whole recording, counts as a state. The
    unit of distance is the median difference between consecutive blocks.
    """
    usual = np.maximum(np.median(np.abs(np.diff(frames, axis=0)), axis=0), MIN_SPREAD_DB)
    scaled = frames / usual
    distance = np.array([np.sort(np.sqrt(np.mean((scaled - one) ** 2, axis=1)))[n_similar] for one in scaled])
    return distance > MAX_DISTANCE


def _spans(pieces: Sequence[TickRun], manifest: Manifest, *, of: Sequence[str] = ()) -> str:
    """The times of the first few pieces as text. `of` gives the names of their recordings."""
    rate_hz = manifest.front_end.sample_rate_hz
    spans = [f"{_hms(piece[0].start / rate_hz)}-{_hms(piece[-1].stop / rate_hz)}" for piece in pieces[:5]]
    named = [f"{span}{which}" for span, which in zip_longest(spans, of[:5], fillvalue="")]
    return f"{', '.join(named)}{' …' if len(pieces) > 5 else ''}"


def _hms(seconds: float) -> str:
    return f"{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def calibrate_here(
    held_out: HeldOut,
    manifest: Manifest,
    components: Sequence[str],
    *,
    min_threshold: float = 0.0,
    fast: Fast | None = None,
    notes: Sequence[str] = (),
) -> Calibration:
    """All thresholds by the method `default`, none below `min_threshold`, for the score of these components."""

    def thresholds_of(_: NormalScores) -> Thresholds:
        found = predicted_thresholds(held_out, prior=prior_of(components), min_threshold=min_threshold)
        return replace(found, notes=(*notes, *found.notes))

    return make_calibration(
        held_out,
        rule=manifest.rule,
        segment_ticks=manifest.segment_ticks,
        tick_s=manifest.scorer_spec.tick_s,
        method="default",
        parameters={},
        promised_per_week=WARNINGS_PER_WEEK,
        thresholds_of=thresholds_of,
        fast=fast,
    )


def finish(
    base: Bundle,
    *,
    by: str,
    name: str,
    spec: DetectorSpec,
    statistics: bytes,
    calibration: Mapping[str, Any],
    clear_ratio: float,
    metrics: Mapping[str, Any],
    messages: tuple[str, ...],
) -> AdaptedBundle:
    """Assemble the adapted bundle from `base`, including its golden score."""
    manifest = base.manifest
    provenance = dict(manifest.provenance) | {
        "metrics": {**manifest.provenance.metrics, **metrics},
        "adapted": {"by": by, "of": base.id},
    }
    detector = {key: getattr(spec, key) for key in DetectorSpec.model_fields}
    changed = amended(
        manifest,
        name=name,
        base=None,
        model=dict(manifest.model) | file_ref(MODEL, base.model),
        detector={**detector, "error": manifest.detector.error, "statistics": file_ref(STATISTICS, statistics)},
        calibration=calibration,
        rule=replace(manifest.rule, clear_ratio=clear_ratio),
        provenance=provenance,
    )
    adapted = replace(base, manifest=changed, statistics=statistics_of(changed, statistics))
    files = {MODEL: base.model, STATISTICS: statistics}
    return AdaptedBundle(files, amended(changed, golden={"score": golden_score(adapted.scorer())}), messages)
