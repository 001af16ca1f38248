"""Make a bundle of a TFLite model that was trained elsewhere."""

from pathlib import Path

from monitor.bundle.bundle import make_scorer
from monitor.bundle.manifest import Manifest
from monitor.bundle.statistics import write_statistics
from monitor.bundle.write import MODEL, STATISTICS, bundle_name, write_bundle
from monitor.core.decision import Rule
from monitor.core.detector import Detector, Reconstruction
from monitor.core.errors import SourceError
from monitor.core.golden import golden_score
from monitor.core.scorer import Scorer
from monitor.core.thresholds import HeldOut
from train.calibrate import expected_spectrum, score_pieces
from train.calibration.method import Method
from train.calibration.thresholds import calibrate
from train.datasets import pieces, read_dataset
from train.manifest import detector_part, make_manifest, versions
from train.recipe import PLAIN, Recipe


def import_model(
    path: Path, recipe: Recipe, out: Path, *, recipe_name: str, threshold: float | None, dataset: Path | None, method: Method
) -> Manifest:
    """Write the bundle `out` around a model; its threshold is given, or set on a data set of normal sound."""
    name = bundle_name(out)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    spec = recipe.scorer_spec
    scorer = make_scorer(model, spec=spec, layout=recipe.layout, detector=Detector([Reconstruction(recipe.training.loss)]))
    statistics, rule = None, recipe.rule(clear_ratio=Rule().clear_ratio)
    if dataset is not None:
        normal = _score_folder(scorer, dataset)
        found = calibrate(normal, rule=rule, segment_ticks=recipe.segment_ticks, tick_s=recipe.tick_s, method=method)
        calibration, rule = found.manifest_part(), recipe.rule(clear_ratio=found.clear_ratio)
        statistics = write_statistics(expected_spectrum(normal.mean_frames.mean(axis=0), normal))
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


def _score_folder(scorer: Scorer, dataset: Path) -> HeldOut:
    normal = read_dataset(dataset).labelled("normal")
    return score_pieces(scorer, pieces(normal, sample_rate_hz=scorer.spec.front_end.sample_rate_hz))
