"""Calibrate a bundle anew: the same model, thresholds and statistics from other normal sound."""

from dataclasses import replace
from pathlib import Path

from monitor.bundle import load_bundle
from monitor.bundle.manifest import Manifest
from monitor.bundle.statistics import write_statistics
from monitor.bundle.write import STATISTICS, amended, bundle_name, check_place, file_ref, is_ours, write_bundle
from monitor.core.fast import Fast, fit_fast
from monitor.core.scorer import ScorerSpec
from monitor.core.thresholds import Calibration, HeldOut, prior_of
from train.bandwidth import check_rates
from train.calibrate import expected_of, score_pieces
from train.calibration.method import Method
from train.calibration.thresholds import calibrate
from train.datasets import Dataset, normal_pieces, split_pieces
from train.known_split import known_split


def recalibrate(
    folder: Path, data: Dataset, out: Path, *, method: Method, split: Path | None = None, channel: int | None = None
) -> Calibration:
    """Score normal sound on the bundle in `folder` and write the bundle `out`, which may be the same.

    Where it is known what of `data` was held out (by `split`, or as the bundle was trained on it), that, else all of it.
    """
    bundle = load_bundle(folder)
    manifest = bundle.manifest
    name = manifest.name if out.resolve() == folder.resolve() else bundle_name(out)
    check_place(out)
    data_sha256 = data.sha256()
    known = known_split(folder, manifest, data, data_sha256=data_sha256, given=split)
    rate_hz = manifest.front_end.sample_rate_hz
    if known is None:
        heard = normal_pieces(data, sample_rate_hz=rate_hz, channel=channel)
    else:
        heard = split_pieces(known, sample_rate_hz=rate_hz, channel=channel)[1]
    check_rates([piece.recording.rate_hz for piece in heard], manifest.front_end)
    normal = score_pieces(bundle.scorer(), heard, n_learned=manifest.calibration.n_units or None)
    learned = bundle.statistics
    has_fast = manifest.calibration.fast_threshold is not None
    fast = fit_fast(normal.frequent, limits_hz=manifest.front_end.band_limits_hz()) if has_fast else None
    found = calibrate_scores(normal, manifest, method=method, fast=fast)
    statistics = write_statistics(
        expected_of(heard, manifest.scorer_spec),
        normals={} if learned is None else learned.normals,
        typical=() if learned is None else learned.typical,
        powers=() if learned is None else learned.powers,
        response_db=None if learned is None else learned.response_db,
        fast_ceiling_db=None if fast is None else fast.ceiling_db,
    )
    new = amended(
        manifest,
        name=name,
        detector=dict(manifest.detector) | {"statistics": file_ref(STATISTICS, statistics)},
        calibration=found.manifest_part(),
        rule=replace(manifest.rule, clear_ratio=found.clear_ratio),
        provenance=dict(manifest.provenance)
        | {"metrics": {**manifest.provenance.metrics, "calibration_dataset_sha256": data_sha256}},
    )
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    kept = {name: (folder / name).read_bytes() for name in names if is_ours(name) or name == manifest.model.file}
    write_bundle(out, {**kept, STATISTICS: statistics}, new)
    return found


def calibrate_scores(normal: HeldOut, manifest: Manifest, *, method: Method, fast: Fast | None = None) -> Calibration:
    """Thresholds for a bundle's own rule, segment and tick."""
    return calibrate(
        normal,
        rule=manifest.rule,
        segment_ticks=manifest.segment_ticks,
        tick_s=tick_s(manifest.scorer_spec),
        method=method,
        prior=prior_of(manifest.detector.components),
        fast=fast,
    )


def tick_s(spec: ScorerSpec) -> float:
    """How long a tick is, in seconds."""
    return spec.tick_frames * spec.front_end.hop_length / spec.front_end.sample_rate_hz
