"""Calibrate a bundle anew: the same model, thresholds and statistics from other normal sound."""

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from monitor.bundle import load_bundle
from monitor.bundle.manifest import MANIFEST, Manifest
from monitor.bundle.statistics import write_statistics
from monitor.core.scorer import ScorerSpec
from train.calibrate import HeldOut, expected_spectrum, score_pieces
from train.calibration.method import Method
from train.calibration.thresholds import Calibration, calibrate
from train.datasets import pieces, read_dataset
from train.manifest import bundle_name
from train.write_bundle import STATISTICS, file_ref, write_bundle


def recalibrate(folder: Path, dataset: Path, out: Path, *, method: Method) -> Calibration:
    """Score all of `dataset` on the bundle in `folder` and write the bundle `out`, which may be the same."""
    bundle = load_bundle(folder)
    manifest = bundle.manifest
    name = manifest.name if out.resolve() == folder.resolve() else bundle_name(out)
    data = read_dataset(dataset)
    clips = pieces(data.labelled("normal"), sample_rate_hz=manifest.front_end.sample_rate_hz)
    normal = score_pieces(bundle.scorer(), clips)
    found = calibrate_scores(normal, manifest, method=method)
    statistics = write_statistics(expected_spectrum(normal.mean_frames.mean(axis=0), normal))
    content: dict[str, Any] = dict(manifest) | {
        "schema": manifest.schema_,
        "name": name,
        "created": datetime.now(timezone.utc).replace(microsecond=0),
        "detector": dict(manifest.detector) | {"statistics": file_ref(STATISTICS, statistics)},
        "calibration": found.manifest_part(),
        "rule": replace(manifest.rule, clear_ratio=found.clear_ratio),
        "provenance": dict(manifest.provenance)
        | {"metrics": {**manifest.provenance.metrics, "calibration_dataset_sha256": data.sha256()}},
    }
    del content["schema_"]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    old = manifest.detector.statistics
    kept = {key: value for key, value in files.items() if key != MANIFEST and (old is None or key != old.file)}
    write_bundle(out, {**kept, STATISTICS: statistics}, Manifest.model_validate(content))
    return found


def calibrate_scores(normal: HeldOut, manifest: Manifest, *, method: Method) -> Calibration:
    """Thresholds for a bundle's own rule, segment and tick."""
    return calibrate(
        normal, rule=manifest.rule, segment_ticks=manifest.segment_ticks, tick_s=tick_s(manifest.scorer_spec), method=method
    )


def tick_s(spec: ScorerSpec) -> float:
    """How long a tick is, in seconds."""
    return spec.tick_frames * spec.front_end.hop_length / spec.front_end.sample_rate_hz
