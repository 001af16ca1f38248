"""Learn a machine in place: the network of a bundle, statistics and thresholds from this machine's own normal sound."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from monitor.bundle.bundle import Bundle, make_scorer
from monitor.bundle.components import make_detector
from monitor.bundle.in_place import (
    MOST_LEFT_OUT,
    Made,
    check_sound,
    finish,
    settle_in_place,
    tick_s,
    without_disturbed,
    without_odd,
)
from monitor.bundle.manifest import DetectorSpec
from monitor.bundle.statistics import write_statistics
from monitor.core.arrays import F64
from monitor.core.detector import Detector, Fitted, fit_statistics, least_spread_db
from monitor.core.errors import SourceError
from monitor.core.expected import Expected, fit_expected
from monitor.core.fast import FAST_TICK_S, fit_fast
from monitor.core.retrace import Piece, Trace, apart, join, portraits, retrace
from monitor.core.scorer import Scorer
from monitor.core.statement import duration
from monitor.core.thresholds import HeldOut

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
            "components": ("reconstruction", "residual", "spectrum", "modulation", "peaks"),
            "fusion": "mean",
            "modulation": {"n_groups": min(16, n_bands), "lags_frames": (1, 2, 4, 8, 16)},
            "peaks": {"decay": 0.9},
        }
    )


def learn(base: Bundle, streams: Sequence[Piece], *, name: str, force: bool = False) -> Made:
    """The bundle `name` for the machine that these streams of ticks are the normal sound of.

    Blocks that sound unlike the rest are left out; SourceError where they are too many, unless `force`. So are lone
    disturbances, a slammed door say: one of them would set the threshold above all faults.
    Every segment is scored by statistics that were fitted without its part of the sound, a recording or a fifth: thresholds
    and typical numbers rest on those scores. The bundle's own statistics are then fitted on all of it.
    """
    manifest = base.manifest
    check_sound(streams, manifest.scorer_spec, at_least_s=AT_LEAST_S)
    recordings, said = without_odd(streams, manifest, most=1.0 if force else MOST_LEFT_OUT)
    n_bands, error = manifest.front_end.n_bands, manifest.detector.error
    spec = manifest.detector if len(manifest.detector.components) > 1 else default_detector(n_bands)
    blank = make_detector(spec, error=error, n_bands=n_bands, statistics=None)
    judged = _judge(base, blank, recordings)
    for _ in range(ROUNDS):  # what is loud hides what is less so
        recordings, more = without_disturbed(recordings, judged.heard, manifest)
        if not more:
            break
        said, judged = [*said, *more], _judge(base, blank, recordings)
    held_out = join([trace.held_out(tick_s(manifest.scorer_spec)) for _, trace in judged.heard])
    fast = None
    if FAST_TICK_S[0] <= tick_s(manifest.scorer_spec) <= FAST_TICK_S[1]:
        fast = fit_fast(held_out.frequent, limits_hz=manifest.front_end.band_limits_hz())
    found = settle_in_place(held_out, manifest, fast=fast)
    everything = np.concatenate(judged.sums)
    statistics = write_statistics(
        _expected(recordings, held_out),
        normals=fit_statistics(
            blank, training=everything, held_out=everything, gain_db=GAIN_DB, noise_db=_noise_db(base)
        ).normals,
        typical=judged.typical,
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
        metrics={"held_out_mean": found.score_mean, "held_out_max": float(held_out.segment_scores.max())},
        said=(*said, f"learned from {duration(found.hours)} of sound. {found.statement}"),
    )


@dataclass(frozen=True)
class _Judged:
    """The detector's sums (n, k) over each fold of the sound, and the fold with its scores by what the others taught."""

    sums: list[F64]
    typical: tuple[float, ...]
    heard: list[tuple[list[Piece], Trace]]


def _judge(base: Bundle, blank: Detector, recordings: Sequence[Sequence[Piece]]) -> _Judged:
    folds = _folds(recordings)
    sums = [apart(_scorer(base, blank), fold) for fold in folds]
    apart_from = [np.concatenate(sums[:number] + sums[number + 1 :]) for number in range(len(folds))]
    fits = [
        fit_statistics(blank, training=others, held_out=own, gain_db=GAIN_DB, noise_db=_noise_db(base))
        for others, own in zip(apart_from, sums, strict=True)
    ]
    typical = _typical(blank, fits, sums)
    judges = [replace(fit, typical=typical).detector(blank) for fit in fits]
    heard = [(fold, retrace(_scorer(base, judge), fold)) for judge, fold in zip(judges, folds, strict=True)]
    return _Judged(sums, typical, heard)


def _expected(recordings: Sequence[Sequence[Piece]], held_out: HeldOut) -> Expected:
    """What is expected, by portraits; ticks that were kept without any know neither levels nor envelope spectra."""
    heard = portraits(piece for pieces in recordings for piece in pieces)
    if len(heard) >= MIN_PORTRAITS:
        return fit_expected(heard)
    spread_db = np.maximum(held_out.mean_frames.std(axis=0), MIN_SPREAD_DB)
    return Expected(held_out.mean_frames.mean(axis=0).astype(np.float32), spread_db.astype(np.float32))


def _noise_db(base: Bundle) -> F64:
    front_end = base.manifest.front_end
    return least_spread_db(front_end.band_limits_hz(), sample_rate_hz=front_end.sample_rate_hz)


def _scorer(base: Bundle, detector: Detector) -> Scorer:
    manifest = base.manifest
    return make_scorer(base.model, spec=manifest.scorer_spec, layout=manifest.model.layout, detector=detector)


def _typical(blank: Detector, fits: Sequence[Fitted], sums: Sequence[F64]) -> tuple[float, ...]:
    """The median of each component over segments that its statistics do not know."""
    ones = (1.0,) * len(blank.components)
    scores = [
        score
        for fit, part in zip(fits, sums, strict=True)
        for one in part
        if (score := replace(fit, typical=ones).detector(blank).component_scores(one)) is not None
    ]
    typical = tuple(float(np.float32(value)) for value in np.median(scores, axis=0))
    if min(typical) <= 0.0:
        raise SourceError("the sound must vary as a machine's does, got one that is the same all along")
    return typical


def _folds(recordings: Sequence[Sequence[Piece]]) -> list[list[Piece]]:
    """The sound in parts that know least of each other: by recordings where there are enough, else in fifths of time."""
    recordings = [pieces for pieces in recordings if pieces]
    if len(recordings) >= N_FOLDS:
        n_folds = min(len(recordings), MOST_FOLDS)
        parts = np.array_split(np.arange(len(recordings)), n_folds)
        return [[piece for number in part for piece in recordings[number]] for part in parts]
    pieces = [piece for one in recordings for piece in one]
    total, done = sum(map(len, pieces)), 0
    folds: list[list[Piece]] = [[] for _ in range(N_FOLDS)]
    for piece in pieces:
        ends = [min(len(piece), max(0, -(-(fold + 1) * total // N_FOLDS) - done)) for fold in range(N_FOLDS)]
        for fold, (start, stop) in zip(folds, pairwise((0, *ends)), strict=True):
            if stop > start:
                fold.append(piece[start:stop])
        done += len(piece)
    return [fold for fold in folds if fold]
