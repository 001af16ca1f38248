"""Cross-fitting: learn statistics from all normal sound, and score each fold of time by the statistics of the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from monitor.arrays import F32, F64
from monitor.errors import ConfigError, SourceError
from monitor.learning.fit import CrossFit, Fitted, cross_fit, fit_normals
from monitor.learning.measured import RecordingSums, held_out_scores, time_folds
from monitor.learning.thresholds import HeldOut
from monitor.scoring.components import Detector, Reconstruction
from monitor.scoring.fast_path import Fast
from monitor.scoring.scorer import Scorer
from train.calibration.cross_fitted import CrossFitted, Stretch
from train.calibration.normal_scores import measure_pieces
from train.calibration.states import find_normal_states
from train.datasets import Clip, Dataset, Piece, RecordingOrder, folds
from train.datasets.clip import hash_of
from train.recipes.recipe import Recipe

N_FOLDS = 5


@dataclass(frozen=True)
class Learned:
    """Statistics of all the sound, and cross-fitted scores of each part of it.

    The names of `stretches` are the files' paths.
    """

    fitted: Fitted
    held_out: HeldOut
    stretches: tuple[Stretch, ...]

    def to_store(self, dataset: Dataset, *, fast: Fast | None, channel: int | None) -> CrossFitted:
        """The scores to store in the bundle's report; `channel` is the one that was measured."""
        sha256 = {name: hash_of(Path(name)) for name in {one.name for one in self.stretches}}
        named = (
            replace(one, name=Path(one.name).relative_to(dataset.root).as_posix(), sha256=sha256[one.name])
            for one in self.stretches
        )
        return CrossFitted(
            stretches=tuple(named),
            held_out=replace(self.held_out, frequent=self.held_out.frequent[:0]),
            fast=fast,
            channel=channel,
        )


def learn_statistics(
    make: Callable[[], Scorer],
    recipe: Recipe,
    pieces: Sequence[Piece],
    clips: Sequence[Clip],
    order: RecordingOrder,
    *,
    error_growth: float,
) -> Learned:
    """Measure pieces, of these clips, and cross-fit the blank detector of a scorer to them in folds of time.

    `make` makes the scorer and can be pickled. `error_growth` is the factor by which the network's error grows on sound that it
    was not trained on.
    """
    scorer = make()
    measured = [
        replace(one, sums=one.sums * error_scale(scorer.detector, error_growth), name=str(clip.path))
        for one, clip in zip(measure_pieces(make, pieces), clips, strict=True)
    ]
    parts = in_folds(measured, clips, order, n_ticks=recipe.segment_ticks)
    rows = [np.concatenate([one.pieces(recipe.segment_ticks) for one in part]) for part in parts]
    try:
        found, fitted = fit_in_folds(recipe, scorer.detector, rows)
    except ConfigError as error:
        raise SourceError(f"more or longer recordings are needed: {error}") from error
    fold_detectors = [(fit.detector(scorer.detector), part) for fit, part in zip(found.without_fold, parts, strict=True)]
    held_out = held_out_scores(
        fold_detectors,
        segment_ticks=recipe.segment_ticks,
        n_recordings=len(measured),
        n_learned=sum(map(len, rows)),
        drift=found.drift,
    )
    stretches = _stretches(fold_detectors, n_ticks=recipe.segment_ticks, sample_rate_hz=recipe.front_end.sample_rate_hz)
    return Learned(fitted, held_out, stretches)


def fit_in_folds(recipe: Recipe, blank: Detector, folds: Sequence[F64]) -> tuple[CrossFit, Fitted]:
    """The statistics of all folds but one, for each fold of sums (n_i, k) in chronological order, and those of all folds."""
    everything = np.concatenate(folds)
    states = find_normal_states(blank, everything, max_states=recipe.max_states)
    found = cross_fit(blank, folds, gain_db=recipe.gain_db, noise_db=recipe.noise_db, states=states)
    normals = fit_normals(blank, everything, gain_db=recipe.gain_db, noise_db=recipe.noise_db, states=states)
    return found, Fitted(normals, found.typical, found.powers)


def _stretches(
    fold_detectors: Sequence[tuple[Detector, Sequence[RecordingSums]]], *, n_ticks: int, sample_rate_hz: int
) -> tuple[Stretch, ...]:
    """Each recording, or the part of one in a fold, with its scores by the detector paired with that fold."""
    everything = [(detector, one) for detector, part in fold_detectors for one in part if len(one)]
    begins_s = [one.starts[0] / sample_rate_hz for _, one in everything]
    found = [_stretch(detector, one, n_ticks, sample_rate_hz) for detector, one in everything]
    for at in range(1, len(found)):
        if found[at - 1].name == found[at].name:  # parts of one recording follow each other
            found[at - 1] = replace(found[at - 1], stop_s=begins_s[at])
            found[at] = replace(found[at], start_s=begins_s[at])
    return tuple(found)


def _stretch(detector: Detector, measured: RecordingSums, n_ticks: int, sample_rate_hz: int) -> Stretch:
    stops = measured.segment_stops(n_ticks)
    scored = zip(stops, measured.segments(n_ticks), strict=True)
    segments = [(float(stop / sample_rate_hz), score) for stop, row in scored if (score := detector.score(row)) is not None]
    whole = detector.score(measured.whole())
    if whole is not None and n_ticks > len(measured) >= (n_ticks + 1) // 2:
        segments = [((measured.starts[-1] + measured.step_samples) / sample_rate_hz, whole)]
    return Stretch(name=measured.name, score=whole, segments=tuple(segments))


def time_order(clips: Sequence[Clip], order: RecordingOrder) -> list[int]:
    """The indexes of clips in order of time; clips of one recording keep their order."""
    number = {name: at for at, name in enumerate(order.recordings)}
    return sorted(range(len(clips)), key=lambda at: number[clips[at].recording])


def first_and_last(runs: Sequence[F32], share: float) -> tuple[list[F32], list[F32]]:
    """Runs of frames (m, n_bands), in order of time, cut so that the last ones hold this share of all frames."""
    left = round((1.0 - share) * sum(map(len, runs)))
    first: list[F32] = []
    last: list[F32] = []
    for run in runs:
        first += [run[:left]] if left > 0 else []
        last += [run[left:]] if left < len(run) else []
        left = max(0, left - len(run))
    return first, last


def in_folds(
    measured: Sequence[RecordingSums], clips: Sequence[Clip], order: RecordingOrder, *, n_ticks: int
) -> list[list[RecordingSums]]:
    """Folds of whole recordings, or of whole sessions, where there are enough recordings; else cut in time."""
    ordered = time_order(clips, order)
    names = folds(order, n_folds=N_FOLDS)
    if len(names) < N_FOLDS:
        return time_folds([measured[at] for at in ordered], n_folds=N_FOLDS, n_ticks=n_ticks)
    return [[measured[at] for at in ordered if clips[at].recording in fold] for fold in map(set, names)]


def error_scale(blank: Detector, growth: float) -> F64:
    """The factors (k,) that scale the network's error in the detector's sums to that of sound that was not trained on."""
    return np.concatenate(
        [
            [growth] + [1.0] * (component.n_sums - 1) if isinstance(component, Reconstruction) else np.ones(component.n_sums)
            for component in blank.components
        ]
    )
