"""Recalibrate a bundle: the same model, with thresholds and statistics from other normal sound."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monitor.bundle import Bundle, load_bundle
from monitor.bundle.budget import WORKSTATION
from monitor.bundle.manifest import Manifest
from monitor.bundle.statistics import write_statistics
from monitor.bundle.write import STATISTICS, amended, bundle_name, check_place, file_ref, is_ours, write_bundle
from monitor.errors import BundleError, SourceError
from monitor.learning.report_text import count
from monitor.learning.thresholds import Calibration, HeldOut, prior_of
from monitor.scoring.fast_path import Fast, fit_fast
from train.calibration.cross_fitted import read_cross_fitted
from train.calibration.known_split import known_split, trained_pieces
from train.calibration.normal_scores import expected_of, score_pieces
from train.calibration.thresholds import calibrate
from train.datasets import Dataset, Piece, Split, normal_pieces, split_pieces
from train.datasets.bandwidth import check_rates
from train.datasets.clip import hash_of
from train.recipes.method import Method


@dataclass(frozen=True, kw_only=True)
class NormalSound:
    """Normal sound to calibrate on: the pieces, their scores by statistics that were not fitted to them, and the fast path.

    `note` describes the sound in a line if the data set contains training recordings.
    """

    pieces: Sequence[Piece]
    scores: HeldOut
    fast: Fast | None
    note: str | None = None


def recalibrate(
    folder: Path, data: Dataset, out: Path, *, method: Method, split: Path | None = None, channel: int | None = None
) -> tuple[Calibration, str | None]:
    """Compute new thresholds for the bundle in `folder` and write the bundle `out`, which may be the same.

    Returns the calibration, and a note about the sound that was used if `data` contains training recordings. The lists in
    `split`, or the bundle's own if it was trained on exactly this data set, define the held-out clips. If none were held
    out, the bundle's cross-fitted scores are used.
    """
    bundle = load_bundle(folder, budget=WORKSTATION)
    if bundle.is_base:
        raise BundleError(f"{folder}: is a base bundle, which judges nothing; it is learned on the device (monitor learn)")
    manifest = bundle.manifest
    name = manifest.name if out.resolve() == folder.resolve() else bundle_name(out)
    check_place(out)
    data_sha256 = data.sha256()
    known = known_split(folder, manifest, data, data_sha256=data_sha256, given=split)
    normal = normal_sound(bundle, folder, data, known, channel=channel)
    fast = normal.fast
    learned = bundle.statistics
    found = calibrate_scores(normal.scores, manifest, method=method, fast=fast)
    statistics = write_statistics(
        expected_of(normal.pieces, manifest.scorer_spec),
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
    return found, normal.note


def normal_sound(bundle: Bundle, folder: Path, data: Dataset, known: Split | None, *, channel: int | None) -> NormalSound:
    """The normal sound of `data` to calibrate on, with its scores: the held-out clips of `known`, else all normal clips.

    Recordings that the bundle was trained on are left out. Where there are no others, their cross-fitted scores are used.
    SourceError where nothing is left to calibrate on.
    """
    manifest = bundle.manifest
    rate_hz = manifest.front_end.sample_rate_hz
    kept = read_cross_fitted(folder)
    if known is not None and (known.held_out or kept is None):
        pieces = split_pieces(known, sample_rate_hz=rate_hz, channel=channel)[1]
    else:
        pieces = normal_pieces(data, sample_rate_hz=rate_hz, channel=channel)
    trained_on = trained_pieces(pieces, data, folder, kept) if kept is not None or known is None else []
    others = [piece for piece in pieces if piece not in set(trained_on)]
    uses_kept = bool(trained_on) and (not others or (known is not None and not known.held_out))
    if kept is not None and uses_kept:
        sha256 = {hash_of(piece.recording.path) for piece in trained_on}
        clips = {clip.path: clip for clip in data.clips}
        is_same = all(kept.is_channel(clips[piece.recording.path], channel) for piece in trained_on)
        if not (kept.sha256 <= sha256 and is_same):
            raise SourceError(
                f"{data.root}: must contain all {count(len(kept.sha256), 'recording')} that the bundle was trained on, in the "
                f"same channel, or other normal sound; got {len(sha256)} of them"
            )
        note = f"used the cross-fitted scores of the bundle's {count(len(kept.names), 'training recording')}"
        return NormalSound(pieces=trained_on, scores=kept.held_out, fast=kept.fast, note=note)
    if not others:
        raise SourceError(
            f"{data.root}: no recording was held out from training, and the bundle has no cross-fitted scores: "
            "use other normal sound"
        )
    check_rates([piece.recording.rate_hz for piece in others], manifest.front_end)
    n_learned = manifest.calibration.n_units if kept is None else kept.held_out.n_learned
    scores = score_pieces(bundle.scorer, others, n_learned=n_learned or None)
    has_fast = manifest.calibration.fast_threshold is not None
    fast = fit_fast(scores.frequent, limits_hz=manifest.front_end.band_limits_hz()) if has_fast else None
    left_out = f"left out {count(len(trained_on), 'training recording')} of the bundle" if trained_on else None
    return NormalSound(pieces=others, scores=scores, fast=fast, note=left_out)


def calibrate_scores(normal: HeldOut, manifest: Manifest, *, method: Method, fast: Fast | None = None) -> Calibration:
    """Thresholds for the bundle's rule, segment and tick."""
    return calibrate(
        normal,
        rule=manifest.rule,
        segment_ticks=manifest.segment_ticks,
        tick_s=manifest.scorer_spec.tick_s,
        method=method,
        prior=prior_of(manifest.detector.components),
        fast=fast,
    )
