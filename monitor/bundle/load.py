"""Load a bundle: check hashes, shapes and the golden score, and reject the bundle on any mismatch."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from monitor.arrays import F32
from monitor.bundle.budget import DEVICE, Budget, check_budget
from monitor.bundle.detector import make_detector, make_features
from monitor.bundle.interpreter import TFLiteModel
from monitor.bundle.manifest import FileRef, Manifest, parse_manifest, read_content
from monitor.bundle.network import check_network
from monitor.bundle.statistics import Statistics, read_statistics
from monitor.errors import BundleError, StethosError
from monitor.explain.reference import Reference
from monitor.files import read_regular
from monitor.scoring.components import Detector
from monitor.scoring.golden import golden_score
from monitor.scoring.scorer import Scorer, ScorerSpec

GOLDEN_TOLERANCE = 0.005


@dataclass(frozen=True)
class Bundle:
    """A bundle that has passed all checks."""

    manifest: Manifest
    statistics: Statistics | None
    digest: str  # SHA-256 of the manifest, which contains the hashes of the other files
    model: bytes

    @property
    def id(self) -> str:
        """Name and content hash, as used in events."""
        return f"{self.manifest.name}@{self.digest[:12]}"

    @property
    def is_base(self) -> bool:
        """Whether it belongs to no machine, so that it judges nothing until `monitor learn` has learned one with it."""
        return self.manifest.base is not None

    @property
    def expected(self) -> Reference | None:
        """The reference of normal sound, if the bundle contains one. That of many machines is no reference."""
        return None if self.statistics is None or self.is_base else self.statistics.expected

    def scorer(self, *, idle_below_dbfs: float | None = None) -> Scorer:
        """A scorer with a separate interpreter. Below `idle_below_dbfs` the machine counts as off."""
        manifest = self.manifest
        response_db = None if self.statistics is None else self.statistics.response_db
        scorer = make_scorer(
            self.model,
            spec=manifest.scorer_spec,
            layout=manifest.model.layout,
            detector=self.detector(),
            response_db=response_db,
        )
        scorer.idle_below_dbfs = idle_below_dbfs
        scorer.ceiling_db = None if self.statistics is None else self.statistics.fast_ceiling_db
        return scorer

    def detector(self) -> Detector:
        """The components with their statistics."""
        spec = self.manifest.detector
        return make_detector(spec, error=spec.error, n_bands=self.manifest.front_end.n_bands, statistics=self.statistics)


def load_bundle(folder: Path | str, *, budget: Budget = DEVICE, network: bytes | None = None) -> Bundle:
    """Load and check the bundle in a folder. BundleError names the failed check and the deviation.

    Sizes, operators and arrays are checked before anything is computed from them, so a bundle may come from anywhere. If
    `network` is given, the model file must have this content.
    """
    folder = Path(folder)
    content = read_content(folder)
    manifest = parse_manifest(folder, content)
    try:
        cost = check_budget(manifest, None, budget)
        model = _read(folder, manifest.model, max_bytes=budget.n_bytes)
        if network is not None and model != network:
            raise BundleError(f"{manifest.model.file} must be the network of the configured bundle")
        ref = manifest.detector.statistics
        statistics = None if ref is None else statistics_of(manifest, _read(folder, ref, max_bytes=cost.statistics_bytes))
        check_budget(manifest, check_network(model), budget)
        bundle = Bundle(manifest, statistics, sha256(content), model)
        _check_golden(manifest, golden_score(bundle.scorer()))
    except (StethosError, ArithmeticError) as error:
        raise BundleError(f"{folder}: {error}") from error
    return bundle


def make_scorer(content: bytes, *, spec: ScorerSpec, layout: str, detector: Detector, response_db: F32 | None = None) -> Scorer:
    """A scorer for the content of a model file; BundleError if model and front end do not match."""
    model = TFLiteModel(content, n_rows=spec.tick_frames // spec.window.hop_frames)
    n_bands = spec.front_end.n_bands
    for which, got, frames in (("input", model.n_in, spec.input_frames), ("output", model.n_out, spec.target_frames)):
        if got != len(frames) * n_bands:
            raise BundleError(
                f"model's {which} must have {len(frames) * n_bands} values ({len(frames)} frames of {n_bands} bands), got {got}"
            )
    dimensions = 1 if layout == "flat" else 3
    if len(model.input_shape) != dimensions:
        raise BundleError(f"model's input must be {layout} ({dimensions} dimensions), got {model.input_shape}")
    return Scorer(spec, model, detector, response_db=response_db)


def statistics_of(manifest: Manifest, content: bytes) -> Statistics:
    """The statistics that belong to a manifest, from the content of their file."""
    detector, n_bands = manifest.detector, manifest.front_end.n_bands
    return read_statistics(
        content,
        n_bands=n_bands,
        sample_rate_hz=manifest.front_end.sample_rate_hz,
        features=make_features(detector, n_bands=n_bands),
        n_components=len(detector.components),
        fast=manifest.calibration.fast_threshold is not None,
    )


def sha256(content: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def _read(folder: Path, ref: FileRef, *, max_bytes: int) -> bytes:
    try:
        content = read_regular(folder / ref.file, max_bytes=max_bytes, within=folder)
    except OSError as error:
        raise BundleError(f"{ref.file} cannot be read: {error.strerror}") from error
    got = sha256(content)
    if got != ref.sha256:
        raise BundleError(f"{ref.file} must have sha256 {ref.sha256[:12]}…, got {got[:12]}… ({len(content)} bytes)")
    return content


def _check_golden(manifest: Manifest, got: float) -> None:
    want = manifest.golden.score
    off = abs(got - want) / max(abs(want), 1e-12)
    if off > GOLDEN_TOLERANCE:
        raise BundleError(
            f"golden score must be {want:.6g} within {GOLDEN_TOLERANCE:.1%}, got {got:.6g} ({off:.2%} off): "
            "this runtime or the manifest does not reproduce the exported score"
        )
