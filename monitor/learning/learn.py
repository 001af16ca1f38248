"""Learn a machine on the device: the network of a bundle with statistics and thresholds from this machine's normal sound."""

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
    MAX_LEFT_OUT,
    AdaptedBundle,
    calibrate_here,
    check_sound,
    drop_outlier_blocks,
    drop_outlier_ticks,
    finish,
)
from monitor.learning.report_text import duration
from monitor.learning.rescore import RescoreResult, TickRun, held_out, independent_sums, profiles, rescore
from monitor.learning.thresholds import Calibration
from monitor.scoring.components import Detector, least_spread_db
from monitor.scoring.fast_path import FAST_TICK_S, fit_fast
from monitor.scoring.scorer import Scorer

MIN_S = 300.0
GAIN_DB = 3.0  # standard deviation of the level in use, as in the recipe `default`
N_FOLDS, MAX_FOLDS = 5, 10
MIN_SPREAD_DB = 0.5
ROUNDS = 2
MIN_PROFILES = 8  # enough for an estimate of their spread


def default_detector(n_bands: int) -> DetectorSpec:
    """The components of the recipe `default`."""
    return DetectorSpec.model_validate(
        {
            "components": ("reconstruction", "spectrum", "modulation"),
            "modulation": {"n_groups": min(16, n_bands), "lags_frames": (1, 2, 4, 8, 16)},
        }
    )


def learn(base: Bundle, streams: Sequence[TickRun], *, name: str, force: bool = False) -> AdaptedBundle:
    """Make the bundle `name` for a machine, from streams of ticks of its normal sound.

    Outlier blocks are dropped; SourceError if there are too many, unless `force`. Isolated outliers such as a slammed door
    are dropped, too, because a single one would raise the threshold above all faults.
    Each segment is scored by statistics that were fitted without its part of the sound, which is a recording or a fifth of the
    sound. Thresholds and typical scores are computed from those scores. The bundle's statistics are then fitted to all of it.
    """
    manifest = base.manifest
    check_sound(streams, manifest.scorer_spec, min_s=MIN_S)
    recordings, messages = drop_outlier_blocks(streams, manifest, max_share=1.0 if force else MAX_LEFT_OUT)
    n_bands, error = manifest.front_end.n_bands, manifest.detector.error
    spec = manifest.detector if len(manifest.detector.components) > 1 else default_detector(n_bands)
    blank = make_detector(spec, error=error, n_bands=n_bands, statistics=None)
    cross_fitted = _cross_fit(base, blank, recordings)
    for _ in range(ROUNDS):  # loud outliers mask quieter ones
        recordings, more = drop_outlier_ticks(recordings, cross_fitted.scored, manifest)
        if not more:
            break
        messages, cross_fitted = [*messages, *more], _cross_fit(base, blank, recordings)
    everything = np.concatenate(cross_fitted.sums)
    normal = held_out(
        [result for _, result in cross_fitted.scored],
        segment_ticks=manifest.segment_ticks,
        tick_s=manifest.scorer_spec.tick_s,
        n_recordings=sum(map(bool, recordings)),
        n_learned=len(everything),
        drift=cross_fitted.fitted.drift,
    )
    fast = None
    if FAST_TICK_S[0] <= manifest.scorer_spec.tick_s <= FAST_TICK_S[1]:
        fast = fit_fast(normal.frequent, limits_hz=manifest.front_end.band_limits_hz())
    found = calibrate_here(normal, manifest, spec.components, fast=fast)
    statistics = write_statistics(
        _expected(recordings, np.concatenate([result.frames for _, result in cross_fitted.scored])),
        normals=fit_normals(blank, everything, gain_db=GAIN_DB, noise_db=_noise_db(base)),
        typical=cross_fitted.fitted.typical,
        powers=cross_fitted.fitted.powers,
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
        metrics={"held_out_mean": found.score_mean, "held_out_max": float(normal.segment_scores.max())},
        messages=(*messages, f"learned from {duration(found.hours)} of sound{_levels(found)}. {found.statement}"),
    )


def _levels(found: Calibration) -> str:
    """The levels of warnings and alarms in words."""
    if found.alarm_threshold is None:
        return ""
    warning, alarm = (level / found.score_mean for level in (found.threshold, found.alarm_threshold))
    return f": a warning from {warning:.1f} x the usual score, an alarm from {alarm:.1f} x"


@dataclass(frozen=True)
class _CrossFitted:
    """The detector's sums (n, k) of each fold, the statistics, and each fold rescored by the statistics of the others."""

    sums: list[F64]
    fitted: CrossFit
    scored: list[tuple[list[TickRun], RescoreResult]]


def _cross_fit(base: Bundle, blank: Detector, recordings: Sequence[Sequence[TickRun]]) -> _CrossFitted:
    folds = _folds(recordings)
    sums = [independent_sums(_scorer(base, blank), fold) for fold in folds]
    kept = [(fold, own) for fold, own in zip(folds, sums, strict=True) if len(own)]
    fitted = cross_fit(blank, [own for _, own in kept], gain_db=GAIN_DB, noise_db=_noise_db(base))
    detectors = [fit.detector(blank) for fit in fitted.without_fold]
    scored = [(fold, rescore(_scorer(base, detector), fold)) for detector, (fold, _) in zip(detectors, kept, strict=True)]
    return _CrossFitted([own for _, own in kept], fitted, scored)


def _expected(recordings: Sequence[Sequence[TickRun]], mean_frames: F64) -> Reference:
    """The reference of normal sound from segment profiles. If there are too few, it has no levels and envelope spectra."""
    found = profiles(piece for pieces in recordings for piece in pieces)
    if len(found) >= MIN_PROFILES:
        return fit_reference(found)
    spread_db = np.maximum(mean_frames.std(axis=0), MIN_SPREAD_DB)
    return Reference(mean_frames.mean(axis=0).astype(np.float32), spread_db.astype(np.float32))


def _noise_db(base: Bundle) -> F64:
    front_end = base.manifest.front_end
    return least_spread_db(front_end.band_limits_hz(), sample_rate_hz=front_end.sample_rate_hz)


def _scorer(base: Bundle, detector: Detector) -> Scorer:
    manifest = base.manifest
    return make_scorer(base.model, spec=manifest.scorer_spec, layout=manifest.model.layout, detector=detector)


def _folds(recordings: Sequence[Sequence[TickRun]]) -> list[list[TickRun]]:
    """The sound in parts that are as independent as possible: whole recordings if there are enough, otherwise fifths of time."""
    recordings = [pieces for pieces in recordings if pieces]
    if len(recordings) >= N_FOLDS:
        n_folds = min(len(recordings), MAX_FOLDS)
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
