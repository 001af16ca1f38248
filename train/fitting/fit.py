"""From a data set and a recipe to a bundle."""

import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from monitor.arrays import F32
from monitor.bundle.detector import make_detector
from monitor.bundle.load import make_scorer
from monitor.bundle.manifest import Manifest
from monitor.bundle.statistics import write_statistics
from monitor.bundle.write import MODEL, STATISTICS, amended, bundle_name, check_place, write_bundle
from monitor.errors import SourceError, printable
from monitor.events.decision import Rule
from monitor.learning.fit import Fitted
from monitor.learning.thresholds import ENOUGH_RECORDINGS, prior_of
from monitor.scoring.components import Detector
from monitor.scoring.fast_path import Fast, fit_fast
from monitor.scoring.golden import golden_score
from monitor.scoring.scorer import Scorer
from train.calibration.cross_fitted import CROSS_FITTED, write_cross_fitted
from train.calibration.cross_fitting import first_and_last, learn_statistics, time_order
from train.calibration.normal_scores import expected_of, score_pieces
from train.calibration.outlying import outlying_notes, outlying_recordings
from train.calibration.thresholds import calibrate
from train.datasets import (
    Clip,
    Dataset,
    Piece,
    RecordingOrder,
    Split,
    of_channel,
    one_session_note,
    pieces,
    recording_order,
    save_split,
    split_pieces,
)
from train.datasets.survey import survey
from train.features.cache import cached_frames
from train.features.frames import PieceFrames, WindowSet, left_out_s
from train.fitting.manifest import detector_part, make_manifest, versions
from train.fitting.preflight import recipe_split, usable_split
from train.fitting.rate import at_own_rate
from train.networks.backup import Backup
from train.networks.export import to_tflite
from train.networks.networks import device_network
from train.networks.training import Trained, fit_network, representative_windows
from train.recipes.method import Method
from train.recipes.recipe import Recipe

BASE_STATEMENT = "A base bundle judges nothing: these levels of many machines together are not used."


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Choices on the command line other than data set and recipe."""

    recipe_name: str
    seed: int
    method: Method
    channel: int | None = None
    split: Path | None = None  # lists of clips of an earlier split
    resume: bool = False
    base: bool = False  # belongs to no machine
    verbose: bool = False  # Keras prints every epoch


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The manifest of a new bundle and the sound that it was trained on."""

    manifest: Manifest
    n_recordings: int
    hours: float
    n_sessions: int
    n_kept: int  # normal recordings kept to test with
    is_enough: bool  # recordings, or 10 s segments of longer ones, for more than gross faults


def fit(data: Dataset, recipe: Recipe, out: Path, choices: Choices) -> FitResult:
    """Train, export, calibrate and write the bundle `out`."""
    name = bundle_name(out)
    check_place(out)
    recipe = at_own_rate(recipe, data, channel=choices.channel)
    sound = _sound(data, recipe, choices)
    backup = Backup(out.parent / f".{name}-training")
    dropped = backup.prepare(_weights_key(sound, recipe, choices.seed), resume=choices.resume)
    if dropped is not None:
        print(f"train: {dropped}", file=sys.stderr)
    if (note := one_session_note(sound.order)) is not None:
        print(f"train: warning: {note}", file=sys.stderr)
    with backup.announced():
        manifest = _write(out, name, sound, recipe, choices, backup=backup)
        backup.remove()
    n_frames = [sum(map(len, piece.runs)) for piece in sound.frames]
    n_segments = sum(max(1, n // (recipe.segment_ticks * recipe.tick_frames)) for n in n_frames)
    return FitResult(
        manifest=manifest,
        n_recordings=len({clip.recording for clip in sound.split.train}),
        hours=sum(n_frames) * recipe.front_end.hop_length / recipe.front_end.sample_rate_hz / 3600,
        n_sessions=len(sound.order.sessions),
        n_kept=len({clip.recording for clip in sound.split.test if clip.label == "normal"}),
        is_enough=n_segments >= ENOUGH_RECORDINGS,
    )


@dataclass(frozen=True, kw_only=True)
class _Sound:
    """The split of a data set with its pieces, and frames of the training and validation pieces, held-out ones first."""

    data: Dataset
    sha256: str  # of the whole data set, before training
    split: Split
    training: list[Piece]
    held_out: list[Piece]
    frames: list[PieceFrames]
    validation: list[PieceFrames]
    clips: list[Clip]  # the training clips, one per piece
    order: RecordingOrder


def _sound(data: Dataset, recipe: Recipe, choices: Choices) -> _Sound:
    """Split and check the data set; SourceError where it cannot be trained on."""
    split = recipe_split(data, recipe, seed=choices.seed, lists=choices.split)
    surveyed = survey(dict.fromkeys(split.train + split.held_out), channel=choices.channel)
    is_predicted = choices.method.name == "default"
    split = usable_split(split, surveyed, recipe, channel=choices.channel, is_predicted=is_predicted)
    training, held_out = split_pieces(split, sample_rate_hz=recipe.front_end.sample_rate_hz, channel=choices.channel)
    frames, validation = (_frames(part, recipe) for part in (training, _validation(split, held_out, recipe, choices)))
    if not len(_windows(frames, recipe)):
        needed = recipe.window.n_frames
        raise SourceError(f"{data.root}: recordings must hold at least {needed} frames to train on, but none do")
    return _Sound(
        data=data,
        sha256=data.sha256(),
        split=split,
        training=training,
        held_out=held_out,
        frames=frames,
        validation=validation,
        clips=list(of_channel(split.train, choices.channel)),
        order=recording_order(data, split.train),
    )


def _weights_key(sound: _Sound, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Everything that determines the network's weights. A training can be resumed if it is unchanged."""
    keys = [[frames.key for frames in part] for part in (sound.frames, sound.validation)]
    parts = {"front_end", "window", "tick_frames", "network", "training", "gain_db"}
    drawn = {"held_out", "seed", "split_by", "validate_on"}  # determine the split, which is part of `sound`
    return {
        **recipe.model_dump(mode="json", include=parts, exclude={"training": drawn}),
        "sound": hashlib.sha256(json.dumps(keys).encode()).hexdigest(),
        "seed": seed,
        "versions": versions(),
    }


def _write(out: Path, name: str, sound: _Sound, recipe: Recipe, choices: Choices, *, backup: Backup) -> Manifest:
    """Train, calibrate and write the bundle."""
    training, held_out, frames, validation = sound.training, sound.held_out, sound.frames, sound.validation
    windows = _windows(frames, recipe)
    trained, error_growth = _train(sound, recipe, windows, choices, backup=backup)
    network = device_network(trained.model)
    model = to_tflite(network, representative=representative_windows(recipe, windows))
    blank = make_detector(recipe.detector, error=recipe.training.loss, n_bands=recipe.front_end.n_bands, statistics=None)
    make_blank = partial(_scorer, model, recipe, blank)
    learned = None
    if recipe.calibration.part == "cross_fitted":
        learned = learn_statistics(make_blank, recipe, training, sound.clips, sound.order, error_growth=error_growth)
        fitted, normal = learned.fitted, learned.held_out
        for line in outlying_notes(outlying_recordings(learned.stretches, prior_of(recipe.detector.components)), sound.data.root):
            print(f"train: warning: {printable(line)}", file=sys.stderr)
    else:
        scored = held_out if recipe.calibration.part == "held_out" else training
        fitted, normal = Fitted({}), score_pieces(make_blank, scored, n_learned=len(training))
    scorer = _scorer(model, recipe, fitted.detector(blank))
    all_normal = (windows, _windows(validation[: len(held_out)], recipe))
    fast = _fast(all_normal, recipe) if recipe.calibration.fast_path else None
    found = calibrate(
        normal,
        rule=recipe.rule(clear_ratio=Rule().clear_ratio),
        segment_ticks=recipe.segment_ticks,
        tick_s=recipe.tick_s,
        method=choices.method,
        prior=prior_of(recipe.detector.components),
        fast=fast,
    )
    statistics = write_statistics(
        expected_of([*training, *held_out], recipe.scorer_spec),
        normals=fitted.normals,
        typical=fitted.typical,
        powers=fitted.powers,
        fast_ceiling_db=None if fast is None else fast.ceiling_db,
    )
    manifest = make_manifest(
        name,
        recipe.scorer_spec,
        model=model,
        layout=recipe.layout,
        detector=detector_part(recipe.detector, error=recipe.training.loss, statistics=statistics),
        calibration=found.manifest_part(),
        rule=recipe.rule(clear_ratio=found.clear_ratio),
        golden=golden_score(scorer),
        provenance={
            "recipe": choices.recipe_name,
            "dataset_sha256": sound.sha256,
            "seed": choices.seed,
            "versions": versions(),
            "metrics": {
                "n_training_windows": len(windows),
                "left_out_s": left_out_s([*frames, *validation[: len(held_out)]], recipe.front_end),
                "held_out_mean": float(np.mean(normal.segment_scores)),
                "held_out_max": float(np.max(normal.segment_scores)),
                "error_growth": round(error_growth, 4),
                "order": sound.order.source,
                "n_sessions": len(sound.order.sessions),
                "leaks": list(recipe.leaks),
            },
        },
    )
    if choices.base:  # a report would be about no machine
        calibration = manifest.calibration.model_copy(update={"statement": BASE_STATEMENT})
        manifest = amended(manifest, base=True, calibration=calibration)
        write_bundle(out, {MODEL: model, STATISTICS: statistics}, manifest)
        return manifest
    report = {
        "report/training.json": json.dumps({"losses": trained.history}, indent=2).encode(),
        "report/model_float32.tflite": to_tflite(network, representative=None),
        **_split_lists(sound.split, sound.data.root),
        **(
            {}
            if learned is None
            else {CROSS_FITTED: write_cross_fitted(learned.to_store(sound.data, fast=fast, channel=choices.channel))}
        ),
    }
    write_bundle(out, {MODEL: model, STATISTICS: statistics, **report}, manifest)
    return manifest


def _scorer(model: bytes, recipe: Recipe, detector: Detector) -> Scorer:
    return make_scorer(model, spec=recipe.scorer_spec, layout=recipe.layout, detector=detector)


def _train(sound: _Sound, recipe: Recipe, windows: WindowSet, choices: Choices, *, backup: Backup) -> tuple[Trained, float]:
    """The network, trained on everything, and the growth of its error on sound that it was not trained on.

    Where nothing is held out, the growth is measured with a second network, trained on all but the last part.
    """
    first, validation = None, _windows(sound.validation, recipe)
    if recipe.calibration.part == "cross_fitted":
        runs = [run for at in time_order(sound.clips, sound.order) for run in sound.frames[at].runs]
        first, validation = (_window_set(part, recipe) for part in first_and_last(runs, recipe.training.held_out))
    n_networks = 2 if first and validation else 1
    with tqdm(
        total=n_networks * recipe.training.epochs,
        desc="train",
        unit="epoch",
        disable=True if choices.verbose else None,  # None: shown on a terminal only
        leave=False,
    ) as epochs:
        bar = None if choices.verbose else epochs
        trained = fit_network(recipe, windows, validation, seed=choices.seed, backup=backup, bar=bar)
        if not (first and validation):
            return trained, 1.0
        without_last = fit_network(recipe, first, validation, seed=choices.seed, bar=bar)
    return trained, max(1.0, without_last.history["val_loss"][-1] / trained.history["val_loss"][-1])


def _fast(window_sets: Sequence[WindowSet], recipe: Recipe) -> Fast | None:
    """The fast path, fitted to all sound. It does not use the network, so nothing needs to be held out."""
    rows = [windows.frequent_frames(tick_frames=recipe.tick_frames) for windows in window_sets if len(windows)]
    return fit_fast(np.concatenate(rows), limits_hz=recipe.front_end.band_limits_hz())


def _validation(split: Split, held_out: list[Piece], recipe: Recipe, choices: Choices) -> list[Piece]:
    """Validation sound for early stopping: held-out sound, or as published everything that is not trained on."""
    if recipe.training.validate_on == "held_out":
        return held_out
    return held_out + pieces(split.test, sample_rate_hz=recipe.front_end.sample_rate_hz, channel=choices.channel)


def _frames(part: list[Piece], recipe: Recipe) -> list[PieceFrames]:
    return cached_frames(part, recipe.front_end, tick_frames=recipe.tick_frames, segment_ticks=recipe.segment_ticks)


def _windows(frames: list[PieceFrames], recipe: Recipe) -> WindowSet:
    return _window_set([run for piece in frames for run in piece.runs], recipe)


def _window_set(runs: Sequence[F32], recipe: Recipe) -> WindowSet:
    return WindowSet(runs, n_frames=recipe.window.n_frames, hop_frames=recipe.window.hop_frames)


def _split_lists(split: Split, root: Path) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        save_split(split, Path(folder), root)
        return {f"report/split/{path.name}": path.read_bytes() for path in Path(folder).iterdir()}
