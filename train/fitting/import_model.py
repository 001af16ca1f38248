"""Make a bundle of a TFLite model that was trained elsewhere."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from monitor.bundle.load import make_scorer
from monitor.bundle.manifest import Manifest
from monitor.bundle.statistics import write_statistics
from monitor.bundle.write import MODEL, STATISTICS, bundle_name, write_bundle
from monitor.errors import SourceError
from monitor.events.decision import Rule
from monitor.learning.thresholds import ERROR_PRIOR
from monitor.scoring.components import Detector, Reconstruction
from monitor.scoring.fast_path import fit_fast
from monitor.scoring.golden import golden_score
from train.calibration.normal_scores import expected_of, score_pieces
from train.calibration.thresholds import calibrate
from train.datasets import Dataset, Piece, load_split, normal_pieces, split_pieces
from train.datasets.bandwidth import check_rates
from train.fitting.manifest import detector_part, make_manifest, versions
from train.recipes.method import Method
from train.recipes.recipe import PLAIN, Recipe


@dataclass(frozen=True)
class NormalScoresOfImport:
    """The data set for the threshold: all its normal clips, or those in held_out.txt of `split`."""

    data: Dataset
    channel: int | None = None
    split: Path | None = None

    def pieces(self, *, sample_rate_hz: int) -> list[Piece]:
        """The pieces to score."""
        if self.split is not None:
            return split_pieces(load_split(self.split, self.data), sample_rate_hz=sample_rate_hz, channel=self.channel)[1]
        return normal_pieces(self.data, sample_rate_hz=sample_rate_hz, channel=self.channel)


def import_model(
    path: Path,
    recipe: Recipe,
    out: Path,
    *,
    recipe_name: str,
    threshold: float | None,
    normal: NormalScoresOfImport | None,
    method: Method,
) -> Manifest:
    """Write the bundle `out` around a model; its threshold is given, or computed from normal sound."""
    name = bundle_name(out)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    spec = recipe.scorer_spec
    detector = Detector([Reconstruction(recipe.training.loss)])
    make = partial(make_scorer, model, spec=spec, layout=recipe.layout, detector=detector)
    scorer = make()
    statistics, rule = None, recipe.rule(clear_ratio=Rule().clear_ratio)
    if normal is not None:
        heard = normal.pieces(sample_rate_hz=spec.front_end.sample_rate_hz)
        check_rates([piece.recording.rate_hz for piece in heard], spec.front_end)
        held_out = score_pieces(make, heard)
        has_fast = recipe.calibration.fast_path
        fast = fit_fast(held_out.frequent, limits_hz=recipe.front_end.band_limits_hz()) if has_fast else None
        found = calibrate(
            held_out,
            rule=rule,
            segment_ticks=recipe.segment_ticks,
            tick_s=recipe.tick_s,
            method=method,
            prior=ERROR_PRIOR,
            fast=fast,
        )
        calibration, rule = found.manifest_part(), recipe.rule(clear_ratio=found.clear_ratio)
        statistics = write_statistics(
            expected_of(heard, spec),
            fast_ceiling_db=None if fast is None else fast.ceiling_db,
        )
    else:
        given = {"method": "given", "threshold": threshold, "file_threshold": threshold}
        calibration = {**given, "n_segments": 0, "n_recordings": 0, "hours": 0.0}
    manifest = make_manifest(
        name,
        spec,
        model=model,
        detector=detector_part(PLAIN, error=recipe.training.loss, statistics=statistics),
        calibration=calibration,
        rule=rule,
        layout=recipe.layout,
        golden=golden_score(scorer),
        provenance={"recipe": recipe_name, "versions": versions(), "metrics": {"imported_from": path.name}},
    )
    files = {MODEL: model} if statistics is None else {MODEL: model, STATISTICS: statistics}
    write_bundle(out, files, manifest)
    return manifest
