"""What learning and calibrating on the device have in common: how a threshold is set on little sound, and what is written."""

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

N_ALIKE = 5  # other blocks that have to be like one,
FAR, MIN_SPREAD_DB = 4.0, 0.5  # nearer than so many times what is usual, which is at least so much
MOST_UNUSABLE = 0.1  # of the ticks
MOST_LEFT_OUT = 0.1  # of the sound, because it is not like the rest


@dataclass(frozen=True)
class AdaptedBundle:
    """A bundle to be written, and what people are told of it, the shortest last."""

    files: Mapping[str, bytes]
    manifest: Manifest
    said: tuple[str, ...]


def check_sound(streams: Sequence[TickRun], spec: ScorerSpec, *, at_least_s: float) -> None:
    """SourceError where too little of it can be scored, or too much of it cannot."""
    shortest = (spec.segment_ticks + 1) // 2
    ticks = [tick for stream in streams if len(stream) >= shortest for tick in stream]
    refused = [tick.quality.reason for tick in ticks if tick.quality.reason is not None]
    usable_s = (len(ticks) - len(refused)) * tick_s(spec)
    if len(ticks) < sum(map(len, streams)) and usable_s < at_least_s:
        least, got = (duration(seconds / 3600) for seconds in (shortest * tick_s(spec), usable_s))
        raise SourceError(f"there must be at least {duration(at_least_s / 3600)} of recordings of {least} or more, got {got}")
    if len(refused) > MOST_UNUSABLE * len(ticks):
        why = max(set(refused), key=refused.count)
        raise SourceError(f"the sound must be usable, got {len(refused) / len(ticks):.0%} of it that is not, most of it {why}")
    if usable_s < at_least_s:
        raise SourceError(f"there must be at least {duration(at_least_s / 3600)} of sound, got {duration(usable_s / 3600)}")


def drop_outlier_blocks(streams: Sequence[TickRun], manifest: Manifest, *, most: float) -> tuple[list[list[TickRun]], list[str]]:
    """Each stream without the blocks of time that sound unlike the rest, in pieces, or none; and what to say of those.

    SourceError where they are more than the share `most`.
    """
    length = max(manifest.segment_ticks, manifest.rule.raise_n)
    blocks = [(number, block) for number, stream in enumerate(streams) for block in cut(stream, length=length)]
    heard = [(number, block, frame) for number, block in blocks if (frame := mean_frame_of(block)) is not None]
    per_recording = len(blocks) // len(streams)
    n_alike = min(N_ALIKE, len(heard) // 4, per_recording - 1 if per_recording > 1 else N_ALIKE)
    far = _far(np.array([frame for *_, frame in heard]), n_alike)
    odd = [(number, block) for (number, block, _), is_far in zip(heard, far, strict=True) if is_far]
    if not odd:
        return [[stream] for stream in streams], []
    of = [f" of recording {number + 1}" if len(streams) > 1 else "" for number, _ in odd]
    names = _clocks([block for _, block in odd], manifest, of=of)
    if len(odd) > most * len(heard):
        raise SourceError(
            f"the machine must run as it always does, got {len(odd)} of {len(heard)} blocks of sound unlike the rest: {names}"
        )
    dropped = {id(block) for _, block in odd}
    pieces: list[list[TickRun]] = [[] for _ in streams]
    for (number, is_kept), run in groupby(blocks, key=lambda one: (one[0], id(one[1]) not in dropped)):
        if is_kept:
            pieces[number].append([tick for _, block in run for tick in block])
    return pieces, [f"left out, unlike the rest: {names}"]


def drop_outlier_ticks(
    recordings: list[list[TickRun]], heard: Iterable[tuple[Sequence[TickRun], RescoreResult]], manifest: Manifest
) -> tuple[list[list[TickRun]], list[str]]:
    """The recordings without lone disturbances, by the scores of all that was `heard` in them; and what to say of those."""
    found = outlier_ticks(recordings, heard, manifest.rule, segment_ticks=manifest.segment_ticks)
    if not found:
        return recordings, []
    found = sorted(found, key=lambda one: (one[0], one[1][0].start))
    pieces = [piece for _, piece in found]
    of = [f" of recording {number + 1}" for number, _ in found] if len(recordings) > 1 else []
    kept = [drop_ticks(of_one, pieces, segment_ticks=manifest.segment_ticks) for of_one in recordings]
    return kept, [f"left out, lone disturbances: {_clocks(pieces, manifest, of=of)}"]


def _far(frames: F64, n_alike: int) -> Bool:
    """Which of the blocks' mean frames (n, n_bands), in order of time, are like fewer than so many others.

    A machine may have several states: what was heard for two minutes, or all through a recording, is one. The unit is what
    is usual from a block to the next.
    """
    usual = np.maximum(np.median(np.abs(np.diff(frames, axis=0)), axis=0), MIN_SPREAD_DB)
    scaled = frames / usual
    apart = np.array([np.sort(np.sqrt(np.mean((scaled - one) ** 2, axis=1)))[n_alike] for one in scaled])
    return apart > FAR


def _clocks(pieces: Sequence[TickRun], manifest: Manifest, *, of: Sequence[str] = ()) -> str:
    """When the first few of them were heard, for people; `of` which recording."""
    rate_hz = manifest.front_end.sample_rate_hz
    spans = [f"{_clock(piece[0].start / rate_hz)}-{_clock(piece[-1].stop / rate_hz)}" for piece in pieces[:5]]
    named = [f"{span}{which}" for span, which in zip_longest(spans, of[:5], fillvalue="")]
    return f"{', '.join(named)}{' …' if len(pieces) > 5 else ''}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def calibrate_here(
    held_out: HeldOut,
    manifest: Manifest,
    components: Sequence[str],
    *,
    at_least: float = 0.0,
    fast: Fast | None = None,
    notes: Sequence[str] = (),
) -> Calibration:
    """All thresholds by the method `default`, none below `at_least`, for the score of these components."""

    def thresholds_of(evidence: NormalScores) -> Thresholds:
        found = predicted_thresholds(held_out, prior=prior_of(components), at_least=at_least)
        return replace(found, notes=(*notes, *found.notes))

    return make_calibration(
        held_out,
        rule=manifest.rule,
        segment_ticks=manifest.segment_ticks,
        tick_s=tick_s(manifest.scorer_spec),
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
    said: tuple[str, ...],
) -> AdaptedBundle:
    """The bundle with its golden score, made of `base`."""
    manifest = base.manifest
    provenance = dict(manifest.provenance) | {
        "metrics": {**manifest.provenance.metrics, **metrics},
        "adapted": {"by": by, "of": base.id},
    }
    detector = {key: getattr(spec, key) for key in DetectorSpec.model_fields}
    changed = amended(
        manifest,
        name=name,
        model=dict(manifest.model) | file_ref(MODEL, base.model),
        detector={**detector, "error": manifest.detector.error, "statistics": file_ref(STATISTICS, statistics)},
        calibration=calibration,
        rule=replace(manifest.rule, clear_ratio=clear_ratio),
        provenance=provenance,
    )
    made = replace(base, manifest=changed, statistics=statistics_of(changed, statistics))
    files = {MODEL: base.model, STATISTICS: statistics}
    return AdaptedBundle(files, amended(changed, golden={"score": golden_score(made.scorer())}), said)


def tick_s(spec: ScorerSpec) -> float:
    """How long a tick is, in seconds."""
    return spec.tick_frames * spec.front_end.hop_length / spec.front_end.sample_rate_hz
