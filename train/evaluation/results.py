"""All numbers of a report, computed once from an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F64, Bool
from monitor.bundle.interpreter import TFLiteModel
from monitor.bundle.manifest import Manifest
from train.datasets.clip import Label
from train.evaluation import metrics
from train.evaluation.evaluate import ClipScore, Evaluation, Role, labels_and_scores
from train.evaluation.groups import Groups, group_metrics
from train.evaluation.metrics import Interval, Verdicts
from train.evaluation.provenance import code_version
from train.networks.layers import Layer, microseconds_a_window, read_layers


@dataclass(frozen=True)
class Area:
    """An area under a curve and its interval."""

    value: float | None
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class AgainstFloat:
    """The float32 model against the shipped one on the same segments: held-out ones, and anomalous ones for the areas.

    There are no areas where the normal segments were trained on: their scores on either model are too low.
    """

    segments: Role  # role of the normal clips: held out, or tested where none were held out
    n_normal: int
    n_anomaly: int
    n_bytes: int
    auc: float | None
    auc_shipped: float | None
    pauc: float | None
    pauc_shipped: float | None
    rank_correlation: float | None  # over the normal segments, as is the next
    inflation: float  # mean of score / float score - 1


@dataclass(frozen=True, kw_only=True)
class Part:
    """One component of the score: its mean ratio to its typical value, by label, and its AUC."""

    name: str
    normal: float | None
    anomaly: float | None
    auc: float | None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Size and run time of the model."""

    n_bytes: int
    macs: int
    microseconds: float  # per window, on the computer of the evaluation
    layers: tuple[Layer, ...]


@dataclass(frozen=True, kw_only=True)
class Results:
    """Numbers about the test clips; `best` and `best_f1` were chosen on test labels.

    `at` is at the bundle's threshold, its warning level where it has two.
    """

    anomaly: Bool
    scores: F64
    at: Verdicts
    at_alarm: Verdicts | None  # at the alarm level; None where there is one level
    swept: tuple[Verdicts, ...]
    best: Verdicts | None
    best_f1: Verdicts | None
    auc: Area
    pauc: Area
    average_precision: Area
    groups: Groups
    segments_over: dict[str, tuple[int, int]]  # label: segments at or above the threshold, all segments
    segments_over_alarm: dict[str, tuple[int, int]]  # the same at the alarm level; empty where there is one level
    cross_fitted: bool  # whether the normal clips are training clips with cross-fitted scores
    parts: tuple[Part, ...]  # of a score that is a mean of several
    against_float: AgainstFloat | None
    cost: Cost
    code: str


def compute_results(evaluation: Evaluation, *, n_resamples: int, commit: str | None) -> Results:
    """All numbers of a report."""
    anomaly, scores = labels_and_scores(evaluation.test)
    swept = metrics.sweep(anomaly, scores)
    calibration, alarm = evaluation.bundle.manifest.calibration, evaluation.alarm_threshold
    both = bool(anomaly.any()) and not bool(anomaly.all())
    return Results(
        anomaly=anomaly,
        scores=scores,
        at=metrics.verdicts(anomaly, scores, threshold=evaluation.threshold),
        at_alarm=None if alarm is None else metrics.verdicts(anomaly, scores, threshold=alarm),
        swept=swept,
        best=metrics.best_compromise(swept) if both else None,
        best_f1=metrics.best_f1(swept) if both else None,
        auc=_area(metrics.auc, anomaly, scores, n_resamples),
        pauc=_area(metrics.partial_auc, anomaly, scores, n_resamples),
        average_precision=_area(metrics.average_precision, anomaly, scores, n_resamples),
        groups=group_metrics(evaluation.test, threshold=evaluation.threshold, n_resamples=n_resamples),
        segments_over=_segments_over(evaluation, calibration.threshold),
        segments_over_alarm={}
        if calibration.alarm_threshold is None
        else _segments_over(evaluation, calibration.alarm_threshold),
        cross_fitted=any(one.role == "cross-fitted" for one in evaluation.test),
        parts=_parts(evaluation),
        against_float=_against_float(evaluation),
        cost=_cost(evaluation),
        code=code_version(commit),
    )


def shipped_model(evaluation: Evaluation) -> tuple[bytes, TFLiteModel, int]:
    """The bundle's model, as bytes and ready to run, and its batch size."""
    manifest = evaluation.bundle.manifest
    content = (evaluation.folder / manifest.model.file).read_bytes()
    n_rows = max(1, manifest.tick_frames // manifest.window.hop_frames)
    return content, TFLiteModel(content, n_rows=n_rows), n_rows


def score_unit(manifest: Manifest) -> str:
    """The unit of a score, for the axes of figures."""
    if tuple(manifest.detector.components) != ("reconstruction",):
        return "score"
    return {"mse": "mean squared error, dB²", "mae": "mean absolute error, dB"}[manifest.detector.error]


def _area(area: metrics.Area, anomaly: Bool, scores: F64, n_resamples: int) -> Area:
    return Area(area(anomaly, scores), metrics.bootstrap(area, anomaly, scores, n_resamples=n_resamples))


def _segments_over(evaluation: Evaluation, threshold: float) -> dict[str, tuple[int, int]]:
    found = {}
    for label in ("normal", "anomaly"):
        scores = [score for one in evaluation.test if one.clip.label == label for _, score in one.segments]
        found[label] = (sum(score >= threshold for score in scores), len(scores))
    return found


def _parts(evaluation: Evaluation) -> tuple[Part, ...]:
    clips = [one for one in evaluation.test if one.components]
    if not clips:
        return ()
    anomaly = np.array([one.clip.label == "anomaly" for one in clips])
    ratios = np.array([one.components for one in clips], np.float64)

    def mean(column: F64) -> float | None:
        return float(column.mean()) if len(column) else None

    return tuple(
        Part(name=name, normal=mean(column[~anomaly]), anomaly=mean(column[anomaly]), auc=metrics.auc(anomaly, column))
        for name, column in zip(evaluation.bundle.manifest.detector.components, ratios.T, strict=True)
    )


def float_pairs(evaluation: Evaluation) -> tuple[Role, dict[Label, F64]]:
    """Scores (n, 2) of segments on the float32 and on the shipped model, by label, and the role of the normal ones."""
    held_out = [one for one in evaluation.scores if one.role == "held out" and one.score is not None]
    normal = held_out or evaluation.labelled("normal")
    role: Role = normal[0].role if normal else "test"
    return role, {"normal": _pairs(normal), "anomaly": _pairs(evaluation.labelled("anomaly"))}


def _pairs(clips: Sequence[ClipScore]) -> F64:
    """For a clip shorter than a segment, its whole score."""
    return np.array([pair for one in clips for pair in one.float_pairs], np.float64).reshape(-1, 2)


def _against_float(evaluation: Evaluation) -> AgainstFloat | None:
    if evaluation.float_model is None:
        return None
    role, pairs = float_pairs(evaluation)
    normal, abnormal = pairs["normal"], pairs["anomaly"]
    judged = normal if len(normal) else abnormal
    if not len(judged):
        return None
    unknown = normal[:0] if role == "cross-fitted" else normal
    anomaly = np.repeat([False, True], (len(unknown), len(abnormal)))
    floating, shipped = np.concatenate((unknown, abnormal)).T
    return AgainstFloat(
        segments=role,
        n_normal=len(normal),
        n_anomaly=len(abnormal),
        n_bytes=len(evaluation.float_model),
        auc=metrics.auc(anomaly, floating),
        auc_shipped=metrics.auc(anomaly, shipped),
        pauc=metrics.partial_auc(anomaly, floating),
        pauc_shipped=metrics.partial_auc(anomaly, shipped),
        rank_correlation=metrics.rank_correlation(judged[:, 1], judged[:, 0]),
        inflation=float(np.mean(judged[:, 1] / judged[:, 0])) - 1.0,
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
