"""Make a bundle's manifest."""

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from monitor import __version__
from monitor.bundle.manifest import DetectorSpec, Manifest
from monitor.bundle.write import MODEL, STATISTICS, created, file_ref
from monitor.events.decision import Rule
from monitor.scoring.scorer import ScorerSpec


def make_manifest(
    name: str,
    spec: ScorerSpec,
    *,
    model: bytes,
    detector: Mapping[str, Any],
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
            "created": created(),
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
            "detector": detector,
            "calibration": calibration,
            "rule": rule,
            "golden": {"score": golden},
            "provenance": provenance,
        }
    )


def detector_part(spec: DetectorSpec, *, error: str, statistics: bytes | None) -> dict[str, Any]:
    """The manifest's `detector`."""
    return {**dict(spec), "error": error, "statistics": None if statistics is None else file_ref(STATISTICS, statistics)}


def versions() -> dict[str, str]:
    """Versions of the packages that the bundle was made with."""
    packages = ("numpy", "tensorflow", "ai-edge-litert", "tflite-runtime", "soxr")
    found = {"stethos": __version__}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
