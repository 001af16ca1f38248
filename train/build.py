"""From a data set and a recipe to a bundle."""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

from monitor import __version__
from monitor.bundle.bundle import make_scorer
from monitor.bundle.manifest import Manifest
from monitor.bundle.statistics import write_statistics
from monitor.core.decision import Rule
from monitor.core.errors import ConfigError, SourceError
from monitor.core.golden import golden_score
from monitor.core.scorer import ScorerSpec
from train.calibrate import HeldOut, Thresholds, expected_spectrum, score_pieces, thresholds
from train.datasets import read_folder, split
from train.export import to_tflite
from train.features import WindowSet, collect
from train.fit import fit_network, representative_windows
from train.recipe import TICK_FRAMES, Recipe
from train.write_bundle import MODEL, STATISTICS, file_ref, write_bundle

_ERRORS = {"mse": "mse", "mae": "mae"}


def scorer_spec(recipe: Recipe) -> ScorerSpec:
    """What shapes a score under this recipe."""
    frames = tuple(range(recipe.window.n_frames))
    return ScorerSpec(
        front_end=recipe.front_end,
        window=recipe.window,
        tick_frames=TICK_FRAMES,
        segment_ticks=recipe.segment_ticks,
        input_frames=frames,
        target_frames=frames,
    )


def fit(dataset: Path, recipe: Recipe, out: Path, *, recipe_name: str, seed: int, k: float, channel: int | None) -> Manifest:
    """Train, export, calibrate and write the bundle `out`; returns its manifest."""
    name = bundle_name(out)
    spec = scorer_spec(recipe)
    data = read_folder(dataset, sample_rate_hz=recipe.front_end.sample_rate_hz, channel=channel)
    training, held_out = split(data.normal, held_out=recipe.training.held_out, seed=seed)
    n_frames = recipe.window.n_frames
    windows, held_out_windows = (
        WindowSet(collect(pieces, recipe.front_end, tick_frames=TICK_FRAMES), n_frames=n_frames)
        for pieces in (training, held_out)
    )
    if not len(windows):
        raise SourceError(f"{dataset}: recordings must hold at least {n_frames} frames to train on, got none that do")
    trained = fit_network(recipe, windows, held_out_windows, seed=seed)
    model = to_tflite(trained.layers, representative=representative_windows(windows))
    scorer = make_scorer(model, spec=spec, layout="flat", error=recipe.training.loss)
    normal = score_pieces(scorer, held_out)
    found = thresholds(normal, k=k)
    statistics = write_statistics(expected_spectrum(windows.band_statistics()[0], normal))
    manifest = make_manifest(
        name,
        spec,
        model=model,
        error=recipe.training.loss,
        statistics=statistics,
        calibration=calibration_part(found, normal, k=k),
        rule=Rule(clear_ratio=found.clear_ratio),
        golden=golden_score(scorer),
        provenance={
            "recipe": recipe_name,
            "dataset_sha256": data.sha256(),
            "seed": seed,
            "versions": versions(),
            "metrics": {
                "n_training_windows": len(windows),
                "held_out_mean": float(np.mean(normal.segment_scores)),
                "held_out_max": float(np.max(normal.segment_scores)),
            },
        },
    )
    report = {
        "report/training.json": json.dumps({"losses": trained.history}, indent=2).encode(),
        "report/model_float32.tflite": to_tflite(trained.layers, representative=None),
    }
    write_bundle(out, {MODEL: model, STATISTICS: statistics, **report}, manifest)
    return manifest


def calibration_part(found: Thresholds, normal: HeldOut, *, k: float) -> dict[str, Any]:
    """What the manifest says of a threshold set on held-out sound."""
    return {
        "method": "mean+k*sigma",
        "k": k,
        "threshold": found.segment,
        "file_threshold": found.file,
        "n_segments": len(normal.segment_scores),
        "n_recordings": len(normal.file_scores),
        "hours": round(normal.hours, 4),
    }


def make_manifest(
    name: str,
    spec: ScorerSpec,
    *,
    model: bytes,
    error: str,
    statistics: bytes | None,
    calibration: Mapping[str, Any],
    rule: Rule,
    golden: float,
    provenance: Mapping[str, Any],
    layout: str = "flat",
) -> Manifest:
    """A validated manifest."""
    return Manifest.model_validate(
        {
            "schema": 1,
            "name": name,
            "created": datetime.now(timezone.utc).replace(microsecond=0),
            "front_end": spec.front_end,
            "window": spec.window,
            "tick_frames": spec.tick_frames,
            "segment_ticks": spec.segment_ticks,
            "model": {
                **file_ref(MODEL, model),
                "layout": layout,
                "input_frames": spec.input_frames,
                "target_frames": spec.target_frames,
            },
            "detector": {
                "components": ("reconstruction",),
                "error": error,
                "fusion": "none",
                "statistics": None if statistics is None else file_ref(STATISTICS, statistics),
            },
            "calibration": calibration,
            "rule": rule,
            "golden": {"score": golden},
            "provenance": provenance,
        }
    )


def bundle_name(out: Path) -> str:
    """A bundle's name is its folder's."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", out.name):
        raise ConfigError(f"--out must end in a name of a-z, 0-9, _ and -, got {out.name!r}")
    return out.name


def versions() -> dict[str, str]:
    """Versions of what shaped the bundle."""
    packages = ("numpy", "tensorflow", "ai-edge-litert", "tflite-runtime", "soxr")
    installed = {dist.name: dist.version for dist in distributions() if dist.name in packages}
    return {"stethos": __version__, **installed}
