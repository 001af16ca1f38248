"""The sections of a report."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monitor.arrays import F64
from train.evaluation.close_up import CloseUp, band_errors, close_up, typical
from train.evaluation.evaluate import Evaluation
from train.evaluation.results import Results, score_unit, shipped_model
from train.report import sound
from train.report.figures import curves, reconstruction, scores
from train.report.figures.over_time import over_time
from train.report.front import front_figures
from train.report.page import Front, Item, Note, Section
from train.report.player import players
from train.report.tables import (
    area_table,
    basis_table,
    file_items,
    float_items,
    group_items,
    model_items,
    part_items,
    provenance_table,
    threshold_table,
    verdict_table,
)
from train.report.verdict import Verdict, only_kind

_TRAINED_ON = "The network was trained on the normal clips shown here, so its error on them is lower than on other normal sound."
_BAND_CLIPS = 40  # per label, spread over all of them
_BAND_S = 10.0  # of each of them


def report_front(evaluation: Evaluation, said: Verdict, details: Sequence[CloseUp]) -> Front:
    """The first screen."""
    made, gain = players(details)
    return Front(verdict=said, figures=front_figures(evaluation, details), players=made, gain=gain)


def report_sections(evaluation: Evaluation, results: Results, details: Sequence[CloseUp]) -> list[Section]:
    """The figures and tables behind the verdict. A section without data contains a note or is left out."""
    unit = score_unit(evaluation.bundle.manifest)
    at, labels = results.at, (results.anomaly, results.scores)
    both = results.best is not None
    named = "the bundle's threshold" if results.at_alarm is None else "the bundle's thresholds"
    return [
        Section("sound", "Sound", [sound.waveforms(details), sound.spectra(details), sound.spectrograms(details)]),
        Section("training", "Training", _training(evaluation.folder)),
        Section(
            "reconstruction",
            "Reconstruction",
            [
                *([Note(_TRAINED_ON)] if results.cross_fitted else []),
                *(reconstruction.reconstructions(details), reconstruction.zooms(details), _bands(evaluation)),
            ],
        ),
        Section("scores", "Scores", _scores(evaluation, unit)),
        Section(
            "thresholds",
            "Thresholds",
            [
                scores.sweep_figure(results.swept, at, results.at_alarm, results.best, unit),
                threshold_table(results),
                basis_table(evaluation),
            ],
        ),
        Section(
            "verdicts", f"Verdicts at {named}", [curves.confusion(at, results.at_alarm, results.best), verdict_table(results)]
        ),
        Section(
            "areas",
            "Areas under curves",
            [area_table(results), curves.roc(*labels, at), curves.precision_recall(*labels, at)]
            if both
            else [
                Note(f"No ROC and precision-recall curves: they need normal and anomalous clips, and there are {only_kind(at)}.")
            ],
        ),
        Section("components", "Components of the score", part_items(results)),
        Section("groups", "Machines, ids, sections and domains", group_items(results.groups)),
        Section("model", "Model", model_items(results)),
        Section("float", "Float against int8", float_items(evaluation, results, unit)),
        Section("files", "Files", file_items(evaluation)),
        Section("provenance", "Provenance", [provenance_table(evaluation, results)]),
    ]


def close_ups(evaluation: Evaluation) -> list[CloseUp]:
    """A typical normal and a typical anomalous clip, if there are any."""
    _, model, n_rows = shipped_model(evaluation)
    found = (typical(evaluation.labelled(label)) for label in ("normal", "anomaly"))
    return [close_up(one, evaluation, model, n_rows=n_rows) for one in found if one is not None]


def _training(folder: Path) -> list[Item]:
    path = folder / "report" / "training.json"
    history = json.loads(path.read_text("utf-8")).get("losses") if path.is_file() else None
    return [curves.losses(history)] if history else [Note("The bundle contains no loss curves.")]


def _scores(evaluation: Evaluation, unit: str) -> list[Item]:
    of_segments = scores.segment_histograms(evaluation, unit)
    of_clips = [scores.histograms(evaluation, unit), *([of_segments] if of_segments is not None else [])]
    return [*of_clips, scores.scatter(evaluation, unit), *_over_time(evaluation)]


def _bands(evaluation: Evaluation) -> Item:
    _, model, n_rows = shipped_model(evaluation)
    errors: list[F64] = []
    for label in ("normal", "anomaly"):
        clips = evaluation.labelled(label)
        some = clips[:: max(1, -(-len(clips) // _BAND_CLIPS))]
        details = (close_up(one, evaluation, model, n_rows=n_rows, max_s=_BAND_S) for one in some)
        errors.append(np.array([found for detail in details if (found := band_errors(detail)) is not None], np.float64))
    normal, anomaly = errors
    return reconstruction.band_error_figure(normal, anomaly, evaluation.bundle.manifest.front_end.band_limits_hz())


def _over_time(evaluation: Evaluation) -> list[Item]:
    """Of the clip with the most segments, an anomalous one if possible. Ticks of training clips score too low to be shown."""
    clips = evaluation.labelled("anomaly") or evaluation.labelled("normal")
    clips = tuple(one for one in clips if one.role != "cross-fitted")
    if not clips:
        return []
    longest = max(clips, key=lambda one: (len(one.segments), one == typical(clips)))
    _, model, n_rows = shipped_model(evaluation)
    manifest = evaluation.bundle.manifest
    detail = close_up(longest, evaluation, model, n_rows=n_rows)
    at = manifest.calibration
    return [over_time(detail, threshold=at.threshold, fast_threshold=at.fast_threshold, unit=score_unit(manifest))]
