"""Adapt a bundle to a different microphone or position, using sound of the machine that it was trained on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from monitor.arrays import F32, runs
from monitor.bundle.load import Bundle
from monitor.bundle.manifest import Manifest
from monitor.bundle.statistics import write_statistics
from monitor.errors import SourceError
from monitor.explain.reference import Levels, Reference
from monitor.learning.microphone_response import Offset, compare
from monitor.learning.on_device import (
    MAX_LEFT_OUT,
    AdaptedBundle,
    calibrate_here,
    check_sound,
    drop_outlier_blocks,
    drop_outlier_ticks,
    finish,
)
from monitor.learning.outliers import isolated_runs
from monitor.learning.report_text import duration
from monitor.learning.rescore import RescoreResult, TickRun, held_out, rescore

MIN_S = 45.0


def recalibrate(base: Bundle, streams: Sequence[TickRun], *, force: bool = False) -> AdaptedBundle:
    """Adapt `base` to the microphone that recorded these streams of ticks.

    Differences in gain and in smooth response are attributed to the microphone and removed from frames before scoring. The
    network and the statistics do not change. The threshold is never below that of training, and segments above it are left
    out. If too many segments are above the threshold (apart from one isolated outlier), or gain or response is out of bounds,
    the sound may be from a different machine, which raises SourceError. With `force`, all differences are attributed to the
    microphone, apart from outlier blocks and isolated outliers. Bounds are always relative to training, even if `base` was
    calibrated before.
    """
    manifest, known = base.manifest, base.statistics
    if base.is_base:
        raise SourceError("the base bundle knows no machine to compare with; learn this one first (monitor learn)")
    if known is None:
        raise SourceError("the bundle has no statistics of normal sound to compare with")
    spec, n_recordings = manifest.scorer_spec, len(streams)
    check_sound(streams, spec, min_s=MIN_S)
    trained = known.expected if known.response_db is None else _with_response(known.expected, -known.response_db)
    mean_db = trained.mean_db.astype(np.float64)
    idle_dbfs = manifest.calibration.idle_below_dbfs
    if idle_dbfs is not None:
        gain_db = compare(rescore(base.scorer(), streams).frames, known.expected.mean_db.astype(np.float64)).gain_db
        streams = [_without_idle(stream, idle_dbfs + gain_db) for stream in streams]
        check_sound(streams, spec, min_s=MIN_S)
    messages: list[str] = []
    if force:
        kept_pieces, messages = drop_outlier_blocks(streams, manifest, max_share=MAX_LEFT_OUT)
        streams = [piece for pieces in kept_pieces for piece in pieces]
    difference = compare(rescore(base.scorer(), streams).frames, mean_db)
    for is_last in (False, True):  # segments left out in the first round do not affect the final correction
        response_db = difference.response_db(whole=force)
        adapted = replace(base, statistics=replace(known, response_db=response_db))
        result = rescore(adapted.scorer(), streams)
        is_over = result.scores >= manifest.calibration.threshold
        if not force:
            _refuse(difference, _share_over(result, manifest))
            difference = difference if is_last else compare(result.frames[~is_over], mean_db)
        elif not is_last:
            (streams,), more = drop_outlier_ticks([list(streams)], [(streams, result)], manifest)
            messages = [*messages, *more]
    kept = result if force else _below(result, manifest.calibration.threshold)
    notes = [] if force else ["no threshold is below that of training"]
    trained_with = manifest.calibration
    normal = held_out(
        [kept],
        segment_ticks=manifest.segment_ticks,
        tick_s=spec.tick_s,
        n_recordings=n_recordings,
        n_learned=trained_with.n_units or sum(map(len, kept.sequences)),
    )
    found = calibrate_here(normal, manifest, manifest.detector.components, min_threshold=trained_with.threshold, notes=notes)
    not_below = {
        name: max(level for level in (getattr(found, name), getattr(trained_with, name)) if level is not None)
        for name in ("alarm_threshold", "file_threshold", "file_alarm_threshold")
    }
    offset_text = difference.in_words(manifest.front_end.band_limits_hz())
    left_out = int(is_over.sum()) if not force else 0
    n_left_out = f"; {left_out} of {len(is_over)} segments are above the threshold and were left out" if left_out else ""
    summary = f"calibrated on {duration(found.hours)} of sound, {offset_text}{n_left_out}"
    return finish(
        base,
        by="calibrate",
        name=manifest.name,
        spec=manifest.detector,
        statistics=write_statistics(
            _with_response(trained, response_db),
            normals=known.normals,
            typical=known.typical,
            powers=known.powers,
            response_db=response_db,
            fast_ceiling_db=known.fast_ceiling_db,
        ),
        calibration={
            **found.manifest_part(),
            **not_below,
            "fast_threshold": manifest.calibration.fast_threshold,
        },
        clear_ratio=found.clear_ratio,
        metrics={"level_db": round(difference.gain_db, 2), "forced": force},
        messages=(*messages, found.statement, summary),
    )


def _refuse(difference: Offset, over: float) -> None:
    why = difference.violation
    if why is None and over > MAX_LEFT_OUT:
        why = f"{over:.0%} of it is above the threshold even after correcting for the microphone"
    if why is not None:
        raise SourceError(f"the sound does not match the trained machine: {why} (use --force to override)")


def _share_over(result: RescoreResult, manifest: Manifest) -> float:
    """The fraction of segments above the threshold, ignoring one isolated outlier, which affects a sixth of a minute."""
    rule = manifest.rule
    over = [scores >= manifest.calibration.threshold for scores in result.sequences]
    longest = max(
        (run.stop - run.start for one in over for run in isolated_runs(one, rule, max_length=rule.raise_k - 1)), default=0
    )
    return float((sum(map(np.sum, over)) - longest) / (len(result.scores) - longest))


def _without_idle(stream: TickRun, below_dbfs: float) -> TickRun:
    """The stream with ticks below this level marked as idle."""
    return [
        replace(tick, frames=None, quality=replace(tick.quality, reason="idle"))
        if tick.frames is not None and tick.quality.rms_dbfs < below_dbfs
        else tick
        for tick in stream
    ]


def _below(result: RescoreResult, threshold: float) -> RescoreResult:
    """The sequences and ticks below the threshold."""
    return replace(
        result,
        sequences=tuple(scores[run] for scores in result.sequences for run in runs(scores < threshold)),
        ticks=tuple(tuple(t for t in piece if t.score is None or t.score < threshold) for piece in result.ticks),
    )


def _with_response(expected: Reference, response_db: F32 | None) -> Reference:
    """The reference with the response of the microphone in use."""
    if response_db is None:
        return expected

    def louder(levels: Levels | None) -> Levels | None:
        return None if levels is None else replace(levels, mean_db=levels.mean_db + response_db)

    mean_db = expected.mean_db + response_db
    return replace(expected, mean_db=mean_db, levels=louder(expected.levels))
