"""From a data set and a recipe to a bundle."""

import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitor.bundle.bundle import make_scorer
from monitor.bundle.components import make_detector
from monitor.bundle.manifest import Manifest
from monitor.bundle.statistics import write_statistics
from monitor.bundle.write import MODEL, STATISTICS, bundle_name, check_place, write_bundle
from monitor.core.decision import Rule
from monitor.core.detector import Detector, Fitted, fit_statistics
from monitor.core.errors import SourceError
from monitor.core.fast import Fast, fit_fast
from monitor.core.golden import golden_score
from monitor.core.scorer import Scorer
from train.backup import Backup
from train.bandwidth import check_rates
from train.cache import cached_frames
from train.calibrate import expected_of, score_pieces
from train.calibration.method import Method
from train.calibration.thresholds import calibrate
from train.datasets import Dataset, Piece, Split, load_split, pieces, read_dataset, save_split, split_dataset, split_pieces
from train.export import to_tflite
from train.features import PieceFrames, WindowSet, left_out_s
from train.fit import fit_network, representative_windows
from train.manifest import detector_part, make_manifest, versions
from train.networks import device_network
from train.preflight import check_held_out, check_sound, check_training
from train.rate import at_own_rate
from train.recipe import PLAIN, Recipe
from train.statistics import measure_pieces


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the person at the keyboard chose beside data set and recipe."""

    recipe_name: str
    seed: int
    method: Method
    channel: int | None = None
    layout: str | None = None
    split: Path | None = None  # lists of clips to use again
    resume: bool = False


def fit(dataset: Path, recipe: Recipe, out: Path, choices: Choices) -> Manifest:
    """Train, export, calibrate and write the bundle `out`; returns its manifest."""
    name = bundle_name(out)
    check_place(out)
    data = read_dataset(dataset, layout=choices.layout)
    recipe = at_own_rate(recipe, data, channel=choices.channel)
    sound = _sound(data, recipe, choices)
    backup = Backup(out.parent / f".{name}-training")
    dropped = backup.prepare(_decides_weights(sound, recipe, choices.seed), resume=choices.resume)
    if dropped is not None:
        print(f"train: {dropped}", file=sys.stderr)
    with backup.told():
        manifest = _write(out, name, sound, recipe, choices, backup=backup)
        backup.remove()
    return manifest


@dataclass(frozen=True, kw_only=True)
class _Sound:
    """What of a data set serves what, and its frames: of what is trained on, and of what is watched, held out first."""

    data: Dataset
    sha256: str  # of all of it, before it is trained on
    split: Split
    training: list[Piece]
    held_out: list[Piece]
    frames: list[PieceFrames]
    watched: list[PieceFrames]


def _sound(data: Dataset, recipe: Recipe, choices: Choices) -> _Sound:
    """The data set as it is trained on; SourceError where it cannot be."""
    split = _split(data, recipe, choices)
    heard = check_sound(tuple(dict.fromkeys(split.train + split.held_out)), channel=choices.channel)
    check_rates([one.rate_hz for one in heard], recipe.front_end)
    training, held_out = split_pieces(split, sample_rate_hz=recipe.front_end.sample_rate_hz, channel=choices.channel)
    if recipe.calibration.part == "held_out":
        check_held_out(held_out, heard, segment_ticks=recipe.segment_ticks, tick_s=recipe.tick_s)
    if recipe.detector != PLAIN:
        check_training(training, heard, segment_ticks=recipe.segment_ticks, tick_s=recipe.tick_s)
    frames, watched = (_frames(part, recipe) for part in (training, _validation(split, held_out, recipe, choices)))
    if not len(_windows(frames, recipe)):
        needed = recipe.window.n_frames
        raise SourceError(f"{data.root}: recordings must hold at least {needed} frames to train on, got none that do")
    return _Sound(
        data=data,
        sha256=data.sha256(),
        split=split,
        training=training,
        held_out=held_out,
        frames=frames,
        watched=watched,
    )


def _decides_weights(sound: _Sound, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Everything that decides the network's weights: where it is the same, a training may go on with another's epochs."""
    keys = [[frames.key for frames in part] for part in (sound.frames, sound.watched)]
    parts = {"front_end", "window", "tick_frames", "network", "training", "gain_db"}
    drawn = {"held_out", "seed", "split_by", "validate_on"}  # decide which sound that is, and so does the command
    return {
        **recipe.model_dump(mode="json", include=parts, exclude={"training": drawn}),
        "sound": hashlib.sha256(json.dumps(keys).encode()).hexdigest(),
        "seed": seed,
        "versions": versions(),
    }


def _write(out: Path, name: str, sound: _Sound, recipe: Recipe, choices: Choices, *, backup: Backup) -> Manifest:
    """Train, calibrate and write the bundle."""
    training, held_out, frames, watched = sound.training, sound.held_out, sound.frames, sound.watched
    windows, validation = _windows(frames, recipe), _windows(watched, recipe)
    trained = fit_network(recipe, windows, validation, seed=choices.seed, backup=backup)
    network = device_network(trained.model)
    model = to_tflite(network, representative=representative_windows(recipe, windows))
    judged = held_out if recipe.calibration.part == "held_out" else training
    blank = make_detector(recipe.detector, error=recipe.training.loss, n_bands=recipe.front_end.n_bands, statistics=None)
    fitted = _statistics(_scorer(model, recipe, blank), blank, training, judged, recipe)
    scorer = _scorer(model, recipe, fitted.detector(blank))
    normal = score_pieces(scorer, judged)
    all_normal = (windows, _windows(watched[: len(held_out)], recipe))
    fast = _fast(all_normal, recipe) if recipe.calibration.fast_path else None
    found = calibrate(
        normal,
        rule=recipe.rule(clear_ratio=Rule().clear_ratio),
        segment_ticks=recipe.segment_ticks,
        tick_s=recipe.tick_s,
        method=choices.method,
        fast=fast,
    )
    statistics = write_statistics(
        expected_of([*training, *held_out], recipe.scorer_spec),
        normals=fitted.normals,
        typical=fitted.typical,
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
                "left_out_s": left_out_s([*frames, *watched[: len(held_out)]], recipe.front_end),
                "held_out_mean": float(np.mean(normal.segment_scores)),
                "held_out_max": float(np.max(normal.segment_scores)),
                "leaks": list(recipe.leaks),
            },
        },
    )
    report = {
        "report/training.json": json.dumps({"losses": trained.history}, indent=2).encode(),
        "report/model_float32.tflite": to_tflite(network, representative=None),
        **_split_lists(sound.split, sound.data.root),
    }
    write_bundle(out, {MODEL: model, STATISTICS: statistics, **report}, manifest)
    return manifest


def _scorer(model: bytes, recipe: Recipe, detector: Detector) -> Scorer:
    return make_scorer(model, spec=recipe.scorer_spec, layout=recipe.layout, detector=detector)


def _statistics(scorer: Scorer, blank: Detector, training: list[Piece], judged: list[Piece], recipe: Recipe) -> Fitted:
    """What there is to learn beyond the network; nothing where the score is the plain error."""
    if recipe.detector.components == ("reconstruction",):
        return Fitted({}, ())
    parts = (measure_pieces(scorer, part) for part in (training, judged))
    return fit_statistics(
        blank,
        training=next(parts),
        held_out=next(parts),
        gain_db=recipe.gain_db,
        max_states=recipe.max_states,
        noise_db=recipe.noise_db,
    )


def _fast(heard: Sequence[WindowSet], recipe: Recipe) -> Fast | None:
    """The fast path from all that was heard: it knows nothing of the network, so that nothing need be held out from it."""
    rows = [windows.frequent_frames(tick_frames=recipe.tick_frames) for windows in heard]
    return fit_fast(np.concatenate(rows), limits_hz=recipe.front_end.band_limits_hz())


def _split(data: Dataset, recipe: Recipe, choices: Choices) -> Split:
    if choices.split is not None:
        return load_split(choices.split, data)
    return split_dataset(data, held_out=recipe.training.held_out, seed=choices.seed, by=recipe.training.split_by)


def _validation(split: Split, held_out: list[Piece], recipe: Recipe, choices: Choices) -> list[Piece]:
    """What early stopping watches: held-out sound, or as published everything that is not trained on."""
    if recipe.training.validate_on == "held_out":
        return held_out
    return held_out + pieces(split.test, sample_rate_hz=recipe.front_end.sample_rate_hz, channel=choices.channel)


def _frames(part: list[Piece], recipe: Recipe) -> list[PieceFrames]:
    return cached_frames(part, recipe.front_end, tick_frames=recipe.tick_frames)


def _windows(frames: list[PieceFrames], recipe: Recipe) -> WindowSet:
    runs = [run for piece in frames for run in piece.runs]
    return WindowSet(runs, n_frames=recipe.window.n_frames, hop_frames=recipe.window.hop_frames)


def _split_lists(split: Split, root: Path) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        save_split(split, Path(folder), root)
        return {f"report/split/{path.name}": path.read_bytes() for path in Path(folder).iterdir()}
