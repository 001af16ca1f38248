"""Make a bundle of a TFLite model that was trained elsewhere."""

from pathlib import Path

from monitor.bundle.bundle import make_scorer
from monitor.bundle.manifest import Manifest
from monitor.bundle.statistics import write_statistics
from monitor.core.decision import Rule
from monitor.core.errors import SourceError
from monitor.core.golden import golden_score
from monitor.core.scorer import Scorer
from train.build import bundle_name, calibration_part, make_manifest, scorer_spec, versions
from train.calibrate import HeldOut, expected_spectrum, score_pieces, thresholds
from train.datasets import Piece, read_folder
from train.recipe import Recipe
from train.write_bundle import MODEL, STATISTICS, write_bundle


def import_model(
    path: Path, recipe: Recipe, out: Path, *, recipe_name: str, threshold: float | None, dataset: Path | None, k: float
) -> Manifest:
    """Write the bundle `out` around a model; its threshold is given, or set on a data set of normal sound."""
    name = bundle_name(out)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    spec = scorer_spec(recipe)
    scorer = make_scorer(model, spec=spec, layout="flat", error=recipe.training.loss)
    statistics = None
    if dataset is not None:
        normal = _score_folder(scorer, dataset)
        found = thresholds(normal, k=k)
        calibration, rule = calibration_part(found, normal, k=k), Rule(clear_ratio=found.clear_ratio)
        statistics = write_statistics(expected_spectrum(normal.mean_frames.mean(axis=0), normal))
    else:
        rule = Rule()
        given = {"method": "given", "threshold": threshold, "file_threshold": threshold}
        calibration = {**given, "n_segments": 0, "n_recordings": 0, "hours": 0.0}
    manifest = make_manifest(
        name,
        spec,
        model=model,
        error=recipe.training.loss,
        statistics=statistics,
        calibration=calibration,
        rule=rule,
        golden=golden_score(scorer),
        provenance={"recipe": recipe_name, "versions": versions(), "metrics": {"imported_from": path.name}},
    )
    files = {MODEL: model} if statistics is None else {MODEL: model, STATISTICS: statistics}
    write_bundle(out, files, manifest)
    return manifest


def _score_folder(scorer: Scorer, dataset: Path) -> HeldOut:
    data = read_folder(dataset, sample_rate_hz=scorer.spec.front_end.sample_rate_hz)
    return score_pieces(scorer, [Piece(recording) for recording in data.normal])
