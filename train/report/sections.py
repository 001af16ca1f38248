"""What a report holds, section by section."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monitor.arrays import F64
from train.evaluation.close_up import Look, band_errors, close_look, typical
from train.evaluation.evaluate import Evaluation
from train.evaluation.results import Results, score_unit, shipped_model
from train.report import curves, reconstruction, scores, sound
from train.report.over_time import over_time
from train.report.page import Item, Note, Section
from train.report.player import players
from train.report.summary import only_kind, summary
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

_KNOWN_BY_NETWORK = "The network was trained on the normal clips shown here, so it errs less on them than on other normal sound."
_BAND_CLIPS = 40  # of a kind, spread over all of them
_BAND_S = 10.0  # of each of them


def report_sections(evaluation: Evaluation, results: Results) -> list[Section]:
    """All sections; one that the data set cannot fill says so or is left out."""
    looks = _looks(evaluation)
    unit = score_unit(evaluation.bundle.manifest)
    at, labels = results.at, (results.anomaly, results.scores)
    both = results.best is not None
    named = "the bundle's threshold" if results.at_alarm is None else "the bundle's thresholds"
    return [
        Section("summary", "Summary", summary(evaluation, results)),
        Section("listen", "Listen", _listen(looks)),
        Section("sound", "Sound", [sound.waveforms(looks), sound.spectra(looks), sound.spectrograms(looks)]),
        Section("training", "Training", _training(evaluation.folder)),
        Section(
            "reconstruction",
            "What the model makes of it",
            [
                *([Note(_KNOWN_BY_NETWORK)] if results.cross_fitted else []),
                *(reconstruction.reconstructions(looks), reconstruction.zooms(looks), _bands(evaluation)),
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
            else [Note(f"No ROC and precision-recall curves and no areas: they need clips of both kinds, {only_kind(at)}.")],
        ),
        Section("components", "What the score is made of", part_items(results)),
        Section("groups", "Machines, ids, sections and domains", group_items(results.groups)),
        Section("model", "Model", model_items(results)),
        Section("float", "Float against int8", float_items(evaluation, results, unit)),
        Section("files", "Files", file_items(evaluation)),
        Section("provenance", "Provenance", [provenance_table(evaluation, results)]),
    ]


def _looks(evaluation: Evaluation) -> list[Look]:
    """A typical normal and a typical anomalous clip, of those there are."""
    _, model, n_rows = shipped_model(evaluation)
    found = (typical(evaluation.labelled(label)) for label in ("normal", "anomaly"))
    return [close_look(one, evaluation, model, n_rows=n_rows) for one in found if one is not None]


def _listen(looks: Sequence[Look]) -> list[Item]:
    made, sentence = players(looks)
    return [Note(f"Clips whose scores are typical of their kind. {sentence}"), *made]


def _training(folder: Path) -> list[Item]:
    path = folder / "report" / "training.json"
    history = json.loads(path.read_text("utf-8")).get("losses") if path.is_file() else None
    return [curves.losses(history)] if history else [Note("The bundle holds no loss curves.")]


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
        looks = (close_look(one, evaluation, model, n_rows=n_rows, max_s=_BAND_S) for one in some)
        errors.append(np.array([found for look in looks if (found := band_errors(look)) is not None], np.float64))
    normal, anomaly = errors
    return reconstruction.band_error_figure(normal, anomaly, evaluation.bundle.manifest.front_end.band_limits_hz())


def _over_time(evaluation: Evaluation) -> list[Item]:
    """Of the clip with the most segments, an anomalous one if there is one; of a training clip ticks have no honest score."""
    clips = evaluation.labelled("anomaly") or evaluation.labelled("normal")
    clips = tuple(one for one in clips if one.role != "cross-fitted")
    if not clips:
        return []
    longest = max(clips, key=lambda one: (len(one.segments), one == typical(clips)))
    _, model, n_rows = shipped_model(evaluation)
    manifest = evaluation.bundle.manifest
    look = close_look(longest, evaluation, model, n_rows=n_rows)
    at = manifest.calibration
    return [over_time(look, threshold=at.threshold, fast_threshold=at.fast_threshold, unit=score_unit(manifest))]
