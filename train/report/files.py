"""The machine-readable files of a report: metrics.json and tables as CSV."""

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sklearn.metrics import classification_report

from monitor.bundle.manifest import CalibrationPart
from train.evaluation.evaluate import ClipScore, Evaluation
from train.evaluation.metrics import Verdicts
from train.evaluation.results import Results

KIND = "stethos-evaluation"
_FILE_HEAD = (
    *("file", "label", "machine", "id", "section", "domain", "part", "role", "start_s", "stop_s", "duration_s"),
    *(
        "score",
        "threshold",
        "ratio",
        "verdict",
        "severity",
        "correct",
        "float_score",
        "n_segments",
        "n_segments_over",
        "max_segment_score",
        "problem",
    ),
)
_VERDICTS_HEAD = (
    *("threshold", "true_positives", "false_positives", "true_negatives", "false_negatives"),
    *("precision", "recall", "accuracy", "f1"),
)
_LAYER_HEAD = ("operator", "output_shape", "output_type", "weights_shape", "weights_type", "n_scales", "n_bytes", "macs")


def tables(evaluation: Evaluation, results: Results) -> dict[str, bytes]:
    """CSV files by name."""
    segment_threshold = float(evaluation.bundle.manifest.calibration.threshold)
    every = [(one, end_s, score) for one in evaluation.scores for end_s, score in one.segments]
    groups = [_flat(dataclasses.asdict(group)) for group in results.groups.groups]
    group_head = tuple(groups[0]) if groups else ("kind", "name")
    return {
        "files.csv": to_csv(
            (*_FILE_HEAD, *(f"component_{part.name}" for part in results.parts)),
            [
                (*_file_row(one, evaluation.bundle.manifest.calibration), *(one.components or (None,) * len(results.parts)))
                for one in evaluation.scores
            ],
        ),
        "segments.csv": to_csv(
            ("file", "end_s", "score", "ratio"),
            [(one.name, round(end_s, 3), score, score / segment_threshold) for one, end_s, score in every],
        ),
        "classification_report.csv": to_csv(("class", "precision", "recall", "f1-score", "support"), _by_class(results)),
        "thresholds.csv": to_csv(_VERDICTS_HEAD, [[getattr(at, key) for key in _VERDICTS_HEAD] for at in results.swept]),
        "groups.csv": to_csv(group_head, [tuple(group.values()) for group in groups]),
        "layers.csv": to_csv(_LAYER_HEAD, [[_cell(getattr(at, key)) for key in _LAYER_HEAD] for at in results.cost.layers]),
    }


def metrics_json(evaluation: Evaluation, results: Results) -> dict[str, Any]:
    """The content of metrics.json, for `train report --compare` and other programs."""
    manifest = evaluation.bundle.manifest
    against = results.against_float
    cost = results.cost
    return {
        "schema": 1,
        "kind": KIND,
        "bundle": evaluation.bundle.id,
        "dataset": {
            "name": evaluation.dataset.root.resolve().name,
            "layout": evaluation.dataset.layout,
            "sha256": evaluation.data_sha256,
            "n_clips": len(evaluation.clips),
            "n_test_normal": results.at.n_normal,
            "n_test_anomaly": results.at.n_anomaly,
            "n_training": len(evaluation.untested("training")),
            "n_cross_fitted": len({one.clip for one in evaluation.scores if one.role == "cross-fitted"}),
            "n_held_out": len(evaluation.untested("held out")),
            "n_not_scored": sum(one.score is None for one in evaluation.scores),
            "roles_known": evaluation.roles_known,
        },
        "at_threshold": _verdicts(results.at),
        "at_alarm_threshold": _verdicts(results.at_alarm),
        "best_compromise_chosen_on_test_labels": _verdicts(results.best),
        "best_f1_chosen_on_test_labels": _verdicts(results.best_f1),
        "auc": dataclasses.asdict(results.auc),
        "pauc": dataclasses.asdict(results.pauc),
        "average_precision": dataclasses.asdict(results.average_precision),
        "groups": [dataclasses.asdict(group) for group in results.groups.groups],
        "harmonic_mean": results.groups.harmonic_mean,
        "segments_over_threshold": {label: {"over": n, "of": of} for label, (n, of) in results.segments_over.items()},
        "components": [dataclasses.asdict(part) for part in results.parts],
        "model": {"bytes": cost.n_bytes, "macs_per_window": cost.macs, "microseconds_per_window": cost.microseconds},
        "float": None if against is None else dataclasses.asdict(against),
        "code": results.code,
        "provenance": manifest.provenance.model_dump(mode="json"),
    }


def to_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A CSV file: UTF-8, one header line, empty where there is no value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write files by their names within a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _file_row(one: ClipScore, calibration: CalibrationPart) -> Sequence[Any]:
    threshold, segment_threshold = float(calibration.file_threshold), float(calibration.threshold)
    clip = one.clip
    named = (clip.label, clip.machine, clip.id, clip.section, clip.domain, clip.part)
    stop_s = one.stop_s if math.isfinite(one.stop_s) else None
    about = (one.name, *named, one.role, one.start_s, stop_s, one.duration_s)
    scores = [score for _, score in one.segments]
    over = sum(score >= segment_threshold for score in scores)
    of_segments = (len(scores), over, max(scores, default=None), one.problem)
    if one.score is None:
        return (*about, None, threshold, None, None, None, None, None, *of_segments)
    verdict = "anomaly" if one.score >= threshold else "normal"
    called = (verdict, calibration.file_severity(one.score), verdict == clip.label)
    return (*about, one.score, threshold, one.score / threshold, *called, one.float_score, *of_segments)


def _by_class(results: Results) -> list[Sequence[Any]]:
    """scikit-learn's classification report at the bundle's threshold."""
    called = results.scores >= results.at.threshold
    found = classification_report(
        results.anomaly,
        called,
        labels=[False, True],
        target_names=["normal", "anomaly"],
        output_dict=True,
        zero_division=math.nan,
    )
    rows: list[Sequence[Any]] = [
        (name, *(None if math.isnan(numbers[key]) else numbers[key] for key in ("precision", "recall", "f1-score", "support")))
        for name, numbers in found.items()
        if isinstance(numbers, dict)
    ]
    return [*rows, ("accuracy", None, None, results.at.accuracy, len(results.scores))]


def _verdicts(at: Verdicts | None) -> dict[str, Any] | None:
    return None if at is None else {**dataclasses.asdict(at), "false_alarm_rate": at.false_alarm_rate}


def _flat(group: dict[str, Any]) -> dict[str, Any]:
    interval = group.pop("auc_interval") or {"low": None, "high": None}
    return {**group, "auc_low": interval["low"], "auc_high": interval["high"]}


def _cell(value: Any) -> Any:
    return " x ".join(str(n) for n in value) if isinstance(value, tuple) else value
