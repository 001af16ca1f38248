"""Everything that a report says in numbers, computed once from an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.bundle.interpreter import TFLiteModel
from monitor.bundle.manifest import Manifest
from monitor.core.arrays import F64, Bool
from train import metrics
from train.evaluate import ClipScore, Evaluation, labels_and_scores
from train.metrics import Interval, Verdicts
from train.report.groups import Groups, group_metrics
from train.report.layers import Layer, microseconds_a_window, read_layers
from train.report.provenance import code_version


@dataclass(frozen=True)
class Area:
    """An area under a curve and its interval."""

    value: float | None
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class AgainstFloat:
    """The shipped model against the float32 one, on the test clips."""

    n_bytes: int
    auc: float | None
    pauc: float | None
    rank_correlation: float | None
    inflation: float  # mean over clips of score / float score - 1


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the model takes to store and to run."""

    n_bytes: int
    macs: int
    microseconds: float  # a window, on the computer that evaluated
    layers: tuple[Layer, ...]


@dataclass(frozen=True, kw_only=True)
class Results:
    """Numbers about the test clips; `at` is at the bundle's threshold, `best` and `best_f1` were chosen on test labels."""

    anomaly: Bool
    scores: F64
    at: Verdicts
    swept: tuple[Verdicts, ...]
    best: Verdicts | None
    best_f1: Verdicts | None
    auc: Area
    pauc: Area
    average_precision: Area
    groups: Groups
    segments_over: dict[str, tuple[int, int]]  # label: segments at or over the threshold, all segments
    against_float: AgainstFloat | None
    cost: Cost
    code: str


def compute_results(evaluation: Evaluation, *, n_resamples: int, commit: str | None) -> Results:
    """All numbers of a report."""
    anomaly, scores = labels_and_scores(evaluation.test)
    swept = metrics.sweep(anomaly, scores)
    both = bool(anomaly.any()) and not bool(anomaly.all())
    return Results(
        anomaly=anomaly,
        scores=scores,
        at=metrics.verdicts(anomaly, scores, threshold=evaluation.threshold),
        swept=swept,
        best=metrics.best_compromise(swept) if both else None,
        best_f1=metrics.best_f1(swept) if both else None,
        auc=_area(metrics.auc, anomaly, scores, n_resamples),
        pauc=_area(metrics.partial_auc, anomaly, scores, n_resamples),
        average_precision=_area(metrics.average_precision, anomaly, scores, n_resamples),
        groups=group_metrics(evaluation.test, threshold=evaluation.threshold, n_resamples=n_resamples),
        segments_over=_segments_over(evaluation),
        against_float=_against_float(evaluation),
        cost=_cost(evaluation),
        code=code_version(commit),
    )


def shipped_model(evaluation: Evaluation) -> tuple[bytes, TFLiteModel, int]:
    """The bundle's model as bytes and ready to run, and how many windows it takes at a time."""
    manifest = evaluation.bundle.manifest
    content = (evaluation.folder / manifest.model.file).read_bytes()
    n_rows = max(1, manifest.tick_frames // manifest.window.hop_frames)
    return content, TFLiteModel(content, n_rows=n_rows), n_rows


def score_unit(manifest: Manifest) -> str:
    """What a score counts, for the axes of figures."""
    if tuple(manifest.detector.components) != ("reconstruction",) or manifest.detector.fusion != "none":
        return "score"
    return {"mse": "mean squared error, dB²", "mae": "mean absolute error, dB"}[manifest.detector.error]


def _area(area: metrics.Area, anomaly: Bool, scores: F64, n_resamples: int) -> Area:
    return Area(area(anomaly, scores), metrics.bootstrap(area, anomaly, scores, n_resamples=n_resamples))


def _segments_over(evaluation: Evaluation) -> dict[str, tuple[int, int]]:
    threshold = float(evaluation.bundle.manifest.calibration.threshold)
    found = {}
    for label in ("normal", "anomaly"):
        scores = [score for one in evaluation.test if one.clip.label == label for _, score in one.segments]
        found[label] = (sum(score >= threshold for score in scores), len(scores))
    return found


def _against_float(evaluation: Evaluation) -> AgainstFloat | None:
    pairs: Sequence[ClipScore] = [one for one in evaluation.test if one.float_score is not None]
    if evaluation.float_model is None or not pairs:
        return None
    anomaly, shipped = labels_and_scores(pairs)
    floating = np.array([one.float_score for one in pairs], np.float64)
    return AgainstFloat(
        n_bytes=len(evaluation.float_model),
        auc=metrics.auc(anomaly, floating),
        pauc=metrics.partial_auc(anomaly, floating),
        rank_correlation=metrics.rank_correlation(shipped, floating),
        inflation=float(np.mean(shipped / floating)) - 1.0,
    )


def _cost(evaluation: Evaluation) -> Cost:
    content, model, n_rows = shipped_model(evaluation)
    layers = read_layers(content)
    return Cost(
        n_bytes=len(content),
        macs=sum(layer.macs or 0 for layer in layers),
        microseconds=microseconds_a_window(model, n_rows=n_rows),
        layers=layers,
    )
