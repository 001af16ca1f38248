"""Fit a bundle to another microphone, or another place for it, by the sound of the machine that it knows."""

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
    MOST_LEFT_OUT,
    AdaptedBundle,
    calibrate_here,
    check_sound,
    drop_outlier_blocks,
    drop_outlier_ticks,
    finish,
    tick_s,
)
from monitor.learning.outliers import isolated_runs
from monitor.learning.report_text import duration
from monitor.learning.rescore import RescoreResult, TickRun, held_out, rescore

AT_LEAST_S = 45.0


def recalibrate(base: Bundle, streams: Sequence[TickRun], *, force: bool = False) -> AdaptedBundle:
    """`base` for the microphone that these streams of ticks were heard with.

    Gain and smooth response are taken for the microphone's, and frames are scored without them; network, statistics and
    what training learned stay. The threshold is never below that of training. Sound that is over it even so is not
    learned from; where that is too much, one lone disturbance aside, or gain and response are beyond bounds, SourceError
    says that it looks like a different machine, unless `force`, which takes all that differs for the microphone's but
    blocks unlike the rest and lone disturbances.
    Bounds count from training, also where `base` was calibrated before.
    """
    manifest, known = base.manifest, base.statistics
    if known is None:
        raise SourceError("the bundle must know the spectrum of normal sound, got one without statistics")
    spec, n_recordings = manifest.scorer_spec, len(streams)
    check_sound(streams, spec, at_least_s=AT_LEAST_S)
    trained = known.expected if known.response_db is None else _as_heard(known.expected, -known.response_db)
    mean_db = trained.mean_db.astype(np.float64)
    idle_dbfs = manifest.calibration.idle_below_dbfs
    if idle_dbfs is not None:
        gain_db = compare(rescore(base.scorer(), streams).frames, known.expected.mean_db.astype(np.float64)).gain_db
        streams = [_without_idle(stream, idle_dbfs + gain_db) for stream in streams]
        check_sound(streams, spec, at_least_s=AT_LEAST_S)
    said: list[str] = []
    if force:
        apart, said = drop_outlier_blocks(streams, manifest, most=MOST_LEFT_OUT)
        streams = [piece for pieces in apart for piece in pieces]
    difference = compare(rescore(base.scorer(), streams).frames, mean_db)
    for is_last in (False, True):  # what is left out at first no longer moves what the rest is corrected by
        response_db = difference.response_db(whole=force)
        adapted = replace(base, statistics=replace(known, response_db=response_db))
        trace = rescore(adapted.scorer(), streams)
        is_over = trace.scores >= manifest.calibration.threshold
        if not force:
            _refuse(difference, _share_over(trace, manifest))
            difference = difference if is_last else compare(trace.frames[~is_over], mean_db)
        elif not is_last:
            (streams,), more = drop_outlier_ticks([list(streams)], [(streams, trace)], manifest)
            said = [*said, *more]
    kept = trace if force else _below(trace, manifest.calibration.threshold)
    notes = [] if force else ["the threshold is not below that of training"]
    trained_with = manifest.calibration
    normal = held_out(
        [kept],
        segment_ticks=manifest.segment_ticks,
        tick_s=tick_s(spec),
        n_recordings=n_recordings,
        n_learned=trained_with.n_units or len(kept.scores),
    )
    found = calibrate_here(normal, manifest, manifest.detector.components, at_least=trained_with.threshold, notes=notes)
    not_below = {
        name: max(level for level in (getattr(found, name), getattr(trained_with, name)) if level is not None)
        for name in ("alarm_threshold", "file_threshold", "file_alarm_threshold")
    }
    words = difference.in_words(manifest.front_end.band_limits_hz())
    left_out = int(is_over.sum()) if not force else 0
    n_left_out = f"; {left_out} of {len(is_over)} segments are over the threshold and were left out" if left_out else ""
    result = f"calibrated on {duration(found.hours)} of sound, {words}{n_left_out}"
    return finish(
        base,
        by="calibrate",
        name=manifest.name,
        spec=manifest.detector,
        statistics=write_statistics(
            _as_heard(trained, response_db),
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
        said=(*said, found.statement, result),
    )


def _refuse(difference: Offset, over: float) -> None:
    why = difference.violation
    if why is None and over > MOST_LEFT_OUT:
        why = f"{over:.0%} of it is over the threshold whatever the microphone"
    if why is not None:
        raise SourceError(f"this sounds like a different machine, or one that is not well: {why} (--force takes it all the same)")


def _share_over(trace: RescoreResult, manifest: Manifest) -> float:
    """How many segments are over the threshold, of all but those of one lone disturbance: in a minute that is a sixth."""
    rule = manifest.rule
    over = [scores >= manifest.calibration.threshold for scores in trace.sequences]
    longest = max((run.stop - run.start for one in over for run in isolated_runs(one, rule, longest=rule.raise_k - 1)), default=0)
    return float((sum(map(np.sum, over)) - longest) / (len(trace.scores) - longest))


def _without_idle(stream: TickRun, below_dbfs: float) -> TickRun:
    """Ticks in which the machine is off may not be scored."""
    return [
        replace(tick, frames=None, quality=replace(tick.quality, reason="idle"))
        if tick.frames is not None and tick.quality.rms_dbfs < below_dbfs
        else tick
        for tick in stream
    ]


def _below(trace: RescoreResult, threshold: float) -> RescoreResult:
    """Only what is below the threshold, ticks included."""
    return replace(
        trace,
        scores=trace.scores[trace.scores < threshold],
        frames=trace.frames[trace.scores < threshold],
        sequences=tuple(scores[run] for scores in trace.sequences for run in runs(scores < threshold)),
        ticks=tuple(tuple(t for t in piece if t.score is None or t.score < threshold) for piece in trace.ticks),
    )


def _as_heard(expected: Reference, response_db: F32 | None) -> Reference:
    """What is expected, as the microphone in use hears it."""
    if response_db is None:
        return expected

    def louder(levels: Levels | None) -> Levels | None:
        return None if levels is None else replace(levels, mean_db=levels.mean_db + response_db)

    mean_db = expected.mean_db + response_db
    return replace(expected, mean_db=mean_db, levels=louder(expected.levels))
