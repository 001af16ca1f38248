"""Learn a machine in place: the network of a bundle, statistics and thresholds from this machine's own normal sound."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from monitor.arrays import F64
from monitor.bundle.detector import make_detector
from monitor.bundle.load import Bundle, make_scorer
from monitor.bundle.manifest import DetectorSpec
from monitor.bundle.statistics import write_statistics
from monitor.explain.reference import Reference, fit_reference
from monitor.learning.fit import CrossFit, cross_fit, fit_normals
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
from monitor.learning.report_text import duration
from monitor.learning.rescore import RescoreResult, TickRun, held_out, independent_sums, profiles, rescore
from monitor.scoring.components import Detector, least_spread_db
from monitor.scoring.fast_path import FAST_TICK_S, fit_fast
from monitor.scoring.scorer import Scorer

AT_LEAST_S = 300.0
GAIN_DB = 3.0  # the level may be off by so much in use (standard deviation), as in the recipe `default`
N_FOLDS, MOST_FOLDS = 5, 10
MIN_SPREAD_DB = 0.5
ROUNDS = 2
MIN_PORTRAITS = 8  # fewer say little of a spread


def default_detector(n_bands: int) -> DetectorSpec:
    """The components of the recipe `default`."""
    return DetectorSpec.model_validate(
        {
            "components": ("reconstruction", "spectrum", "modulation"),
            "modulation": {"n_groups": min(16, n_bands), "lags_frames": (1, 2, 4, 8, 16)},
        }
    )


def learn(base: Bundle, streams: Sequence[TickRun], *, name: str, force: bool = False) -> AdaptedBundle:
    """The bundle `name` for the machine that these streams of ticks are the normal sound of.

    Blocks that sound unlike the rest are left out; SourceError where they are too many, unless `force`. So are lone
    disturbances, a slammed door say: one of them would set the threshold above all faults.
    Every segment is scored by statistics that were fitted without its part of the sound, a recording or a fifth: thresholds
    and typical scores rest on those scores. The bundle's own statistics are then fitted on all of it.
    """
    manifest = base.manifest
    check_sound(streams, manifest.scorer_spec, at_least_s=AT_LEAST_S)
    recordings, said = drop_outlier_blocks(streams, manifest, most=1.0 if force else MOST_LEFT_OUT)
    n_bands, error = manifest.front_end.n_bands, manifest.detector.error
    spec = manifest.detector if len(manifest.detector.components) > 1 else default_detector(n_bands)
    blank = make_detector(spec, error=error, n_bands=n_bands, statistics=None)
    judged = _judge(base, blank, recordings)
    for _ in range(ROUNDS):  # what is loud hides what is less so
        recordings, more = drop_outlier_ticks(recordings, judged.heard, manifest)
        if not more:
            break
        said, judged = [*said, *more], _judge(base, blank, recordings)
    everything = np.concatenate(judged.sums)
    known = held_out(
        [trace for _, trace in judged.heard],
        segment_ticks=manifest.segment_ticks,
        tick_s=tick_s(manifest.scorer_spec),
        n_recordings=sum(map(bool, recordings)),
        n_learned=len(everything),
        drift=judged.fitted.drift,
    )
    fast = None
    if FAST_TICK_S[0] <= tick_s(manifest.scorer_spec) <= FAST_TICK_S[1]:
        fast = fit_fast(known.frequent, limits_hz=manifest.front_end.band_limits_hz())
    found = calibrate_here(known, manifest, spec.components, fast=fast)
    statistics = write_statistics(
        _expected(recordings, np.concatenate([trace.frames for _, trace in judged.heard])),
        normals=fit_normals(blank, everything, gain_db=GAIN_DB, noise_db=_noise_db(base)),
        typical=judged.fitted.typical,
        powers=judged.fitted.powers,
        fast_ceiling_db=None if fast is None else fast.ceiling_db,
    )
    return finish(
        base,
        by="learn",
        name=name,
        spec=spec,
        statistics=statistics,
        calibration=found.manifest_part(),
        clear_ratio=found.clear_ratio,
        metrics={"held_out_mean": found.score_mean, "held_out_max": float(known.segment_scores.max())},
        said=(*said, f"learned from {duration(found.hours)} of sound. {found.statement}"),
    )


@dataclass(frozen=True)
class _Judged:
    """The detector's sums (n, k) over each fold of the sound, its statistics, and the fold's scores by the others'."""

    sums: list[F64]
    fitted: CrossFit
    heard: list[tuple[list[TickRun], RescoreResult]]


def _judge(base: Bundle, blank: Detector, recordings: Sequence[Sequence[TickRun]]) -> _Judged:
    folds = _folds(recordings)
    sums = [independent_sums(_scorer(base, blank), fold) for fold in folds]
    kept = [(fold, own) for fold, own in zip(folds, sums, strict=True) if len(own)]
    fitted = cross_fit(blank, [own for _, own in kept], gain_db=GAIN_DB, noise_db=_noise_db(base))
    judges = [fit.detector(blank) for fit in fitted.without_fold]
    heard = [(fold, rescore(_scorer(base, judge), fold)) for judge, (fold, _) in zip(judges, kept, strict=True)]
    return _Judged([own for _, own in kept], fitted, heard)


def _expected(recordings: Sequence[Sequence[TickRun]], mean_frames: F64) -> Reference:
    """What is expected, by portraits; ticks that were kept without any know neither levels nor envelope spectra."""
    heard = profiles(piece for pieces in recordings for piece in pieces)
    if len(heard) >= MIN_PORTRAITS:
        return fit_reference(heard)
    spread_db = np.maximum(mean_frames.std(axis=0), MIN_SPREAD_DB)
    return Reference(mean_frames.mean(axis=0).astype(np.float32), spread_db.astype(np.float32))


def _noise_db(base: Bundle) -> F64:
    front_end = base.manifest.front_end
    return least_spread_db(front_end.band_limits_hz(), sample_rate_hz=front_end.sample_rate_hz)


def _scorer(base: Bundle, detector: Detector) -> Scorer:
    manifest = base.manifest
    return make_scorer(base.model, spec=manifest.scorer_spec, layout=manifest.model.layout, detector=detector)


def _folds(recordings: Sequence[Sequence[TickRun]]) -> list[list[TickRun]]:
    """The sound in parts that know least of each other: by recordings where there are enough, else in fifths of time."""
    recordings = [pieces for pieces in recordings if pieces]
    if len(recordings) >= N_FOLDS:
        n_folds = min(len(recordings), MOST_FOLDS)
        parts = np.array_split(np.arange(len(recordings)), n_folds)
        return [[piece for number in part for piece in recordings[number]] for part in parts]
    pieces = [piece for one in recordings for piece in one]
    total, done = sum(map(len, pieces)), 0
    folds: list[list[TickRun]] = [[] for _ in range(N_FOLDS)]
    for piece in pieces:
        ends = [min(len(piece), max(0, -(-(fold + 1) * total // N_FOLDS) - done)) for fold in range(N_FOLDS)]
        for fold, (start, stop) in zip(folds, pairwise((0, *ends)), strict=True):
            if stop > start:
                fold.append(piece[start:stop])
        done += len(piece)
    return [fold for fold in folds if fold]
