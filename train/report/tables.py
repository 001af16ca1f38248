"""The tables of a report."""

import math
from itertools import groupby

from monitor.learning.report_text import count, duration
from train.evaluation.evaluate import ClipScore, Evaluation
from train.evaluation.groups import Group, Groups
from train.evaluation.metrics import Interval, Verdicts
from train.evaluation.results import Results, float_pairs
from train.features.frames import seconds_by_reason
from train.report.figures import curves, scores
from train.report.page import Item, Note, Table, number

_SHOWN_FILES = 50
_KNOWN_PARTS = "Training clips have no components here: by statistics fitted to these clips they would be too small."
_FROM = {
    "held out": "held out from training",
    "test": "of the tested clips, because none were held out",
    "training": "of training clips, because there are no others",
    "cross-fitted": "of training clips, which both models were trained on",
}


def threshold_table(results: Results) -> Item:
    """The bundle's thresholds, and those that would be best on the test clips."""
    rows = [("the bundle's, from normal sound", results.at)]
    if results.at_alarm is not None:
        rows = [("the bundle's warning level", results.at), ("the bundle's alarm level", results.at_alarm)]
    if results.best is not None and results.best_f1 is not None:
        rows += [
            ("best compromise — chosen on test labels", results.best),
            ("highest F1 — chosen on test labels", results.best_f1),
        ]
    head = ("threshold", "value", "false positives", "false negatives", "precision", "recall", "accuracy", "F1")
    return Table(head=head, rows=[(name, f"{at.threshold:.4g}", *_counts(at)) for name, at in rows])


def _counts(at: Verdicts) -> tuple[str, ...]:
    shares = (number(at.precision), number(at.recall), number(at.accuracy), number(at.f1))
    return (str(at.false_positives), str(at.false_negatives) if at.n_anomaly else "-", *shares)


def verdict_table(results: Results) -> Item:
    """Precision, recall and other rates at the bundle's threshold, or at each of its levels."""
    levels = [results.at] if results.at_alarm is None else [results.at, results.at_alarm]
    rows = [
        ("precision: share of positive verdicts that are correct", *(number(at.precision) for at in levels)),
        ("recall: share of anomalous clips detected", *(number(at.recall) for at in levels)),
        ("accuracy: share of verdicts that are correct", *(number(at.accuracy) for at in levels)),
        ("F1: harmonic mean of precision and recall", *(number(at.f1) for at in levels)),
        ("false alarm rate: share of normal clips called anomalous", *(number(at.false_alarm_rate) for at in levels)),
    ]
    over = [results.segments_over] if results.at_alarm is None else [results.segments_over, results.segments_over_alarm]
    segments = [
        (f"{name} segments at or over their threshold", *(f"{one[label][0]} of {one[label][1]}" for one in over))
        for label, name in (("normal", "normal"), ("anomaly", "anomalous"))
        if over[0][label][1]
    ]
    head = ("measure", "value") if results.at_alarm is None else ("measure", "at the warning level", "at the alarm level")
    return Table(head=head, rows=[*rows, *segments])


def basis_table(evaluation: Evaluation) -> Item:
    """The bundle's thresholds and the data behind them."""
    calibration = evaluation.bundle.manifest.calibration
    levels = (
        ("warning", calibration.threshold, calibration.file_threshold),
        ("alarm", calibration.alarm_threshold, calibration.file_alarm_threshold),
    )
    thresholds = [
        (f"{level} from", f"segments {segment:.4g}, whole files {file:.4g}")
        for level, segment, file in levels
        if segment is not None and file is not None
    ]
    if len(thresholds) == 1:
        thresholds = [("threshold: a single level", thresholds[0][1])]
    spread = calibration.score_spread
    rows = [
        *thresholds,
        ("method", calibration.method),
        ("normal sound", f"{count(calibration.n_recordings, 'recording')}, {duration(calibration.hours)}"),
        *((("segments that share no sound", str(calibration.n_units)),) if calibration.n_units else ()),
        *((("spread of normal recordings' log scores", f"{spread:.3f}"),) if spread is not None else ()),
        *(
            (("later sound is expected to score higher by a factor of", f"{math.exp(calibration.drift):.3f}"),)
            if calibration.drift
            else ()
        ),
        *((("what to expect", calibration.statement),) if calibration.statement else ()),
    ]
    return Table(title="Data behind the thresholds", head=("what", "which"), rows=rows, words=True)


def area_table(results: Results) -> Item:
    """Areas under curves with their intervals."""
    rows = [
        ("AUC: area under the ROC curve", number(results.auc.value), limits(results.auc.interval)),
        ("pAUC: up to 10% false alarms, standardised", number(results.pauc.value), limits(results.pauc.interval)),
        (
            "average precision: area under the precision-recall curve",
            number(results.average_precision.value),
            limits(results.average_precision.interval),
        ),
    ]
    if results.groups.harmonic_mean is not None:
        rows.append(("DCASE: harmonic mean of the groups' AUC and pAUC", number(results.groups.harmonic_mean), "-"))
    return Table(head=("area", "value", "95% interval (bootstrap)"), rows=rows)


def group_items(found: Groups) -> list[Item]:
    """Metrics of each machine, id, section and domain."""
    groups = found.groups
    if not groups:
        return [Note("The data set names no machines, ids, sections or domains.")]
    head = ("group", "normal", "anomalous", "false positives", "false negatives", "AUC", "95% interval", "pAUC")
    by_kind = [(kind, list(members)) for kind, members in groupby(groups, key=lambda group: group.kind)]
    tables: list[Item] = [Table(title=f"By {kind}", head=head, rows=[_group_row(one) for one in of]) for kind, of in by_kind]
    note = Note("As in DCASE, a domain's normal clips are compared with all anomalous clips of its section or id.")
    drawn: list[Item] = [curves.group_figure(groups)] if any(group.auc is not None for group in groups) else []
    return [*drawn, *tables, *([note] if any(kind == "domain" for kind, _ in by_kind) else [])]


def _group_row(group: Group) -> tuple[str, ...]:
    wrong = (str(group.false_positives), str(group.false_negatives))
    counts = (str(group.n_normal), str(group.n_anomaly), *wrong)
    return (group.name, *counts, number(group.auc), limits(group.auc_interval), number(group.pauc))


def model_items(results: Results) -> list[Item]:
    """The model's layers, size and time."""
    cost = results.cost
    head = ("layer", "output", "type", "weights", "type", "weight scales", "bytes", "multiply-accumulates")
    rows = [
        (
            f"{at} {layer.operator}",
            _shape(layer.output_shape),
            layer.output_type,
            _shape(layer.weights_shape),
            layer.weights_type or "-",
            str(layer.n_scales or "-"),
            f"{layer.n_bytes:,}",
            "-" if layer.macs is None else f"{layer.macs:,}",
        )
        for at, layer in enumerate(cost.layers)
    ]
    sentences = (
        f"The model takes {cost.n_bytes:,} bytes and {cost.macs:,} multiply-accumulates per window. On the computer that "
        f"made this report, a window took {cost.microseconds:.2f} µs."
    )
    return [Note(sentences), Table(head=head, rows=rows)]


def float_items(evaluation: Evaluation, results: Results, unit: str) -> list[Item]:
    """The shipped model against the float32 one."""
    against = results.against_float
    if against is None:
        return [Note("The bundle contains no float32 model to compare with.")]
    rows = [
        ("size, bytes", f"{against.n_bytes:,}", f"{results.cost.n_bytes:,}"),
        ("AUC of segments", number(against.auc, digits=4), number(against.auc_shipped, digits=4)),
        ("pAUC of segments", number(against.pauc, digits=4), number(against.pauc_shipped, digits=4)),
    ]
    of = f"the same {against.n_normal} normal segments ({_FROM[against.segments]})" if against.n_normal else "anomalous segments"
    areas = f" The areas compare them with {against.n_anomaly} anomalous segments." if against.auc is not None else ""
    sentences = (
        f"On {of}, scores of the shipped model differ from those of the float32 model by {against.inflation:+.2%} on average; "
        f"their rank correlation (Spearman) is {number(against.rank_correlation, digits=4)}.{areas}"
    )
    figure = scores.float_figure(float_pairs(evaluation)[1], unit)
    return [Note(sentences), Table(head=("", "float32", "as shipped"), rows=rows), figure]


def part_items(results: Results) -> list[Item]:
    """The contribution of each component; empty where the score has a single component."""
    if not results.parts:
        return [Note(_KNOWN_PARTS)] if results.cross_fitted else []
    rows = [(part.name, number(part.normal), number(part.anomaly), number(part.auc)) for part in results.parts]
    whole = ("score: their mean", *(_mean(results, anomaly=which) for which in (False, True)), number(results.auc.value))
    sentences = (
        "The score is the mean of these components, each relative to its typical value on normal sound that it has not "
        "learned: about 1 where all is well. The larger a component grows on anomalous clips, the more it contributes to "
        "finding them; its AUC is that of the component alone. The components of every clip are in files.csv."
    )
    return [
        Note(f"{sentences} {_KNOWN_PARTS}" if results.cross_fitted else sentences),
        Table(head=("component", "normal clips, mean", "anomalous clips, mean", "AUC alone"), rows=[*rows, whole]),
    ]


def _mean(results: Results, *, anomaly: bool) -> str:
    some = results.scores[results.anomaly == anomaly]
    return number(float(some.mean()) if len(some) else None)


def file_items(evaluation: Evaluation) -> list[Item]:
    """Clips with a wrong verdict or without a score come first, then those nearest to the threshold."""

    def first(one: ClipScore) -> tuple[int, float]:
        if one.score is None:
            return 0, 0.0
        wrong = (one.score >= evaluation.threshold) != (one.clip.label == "anomaly") and one.role in evaluation.tested_roles
        return (1 if wrong else 2), abs(one.score - evaluation.threshold)

    ranked = sorted(evaluation.scores, key=first)
    rows = [
        (
            one.name + _part_of(one),
            one.clip.label,
            number(one.score),
            number(one.score / evaluation.threshold),
            _verdict(one, evaluation),
        )
        if one.score is not None
        else (one.name, one.clip.label, "-", "-", one.problem or "-")
        for one in ranked[:_SHOWN_FILES]
    ]
    sentences = (
        f"{len(rows)} of {len(ranked)} clips: those without a score, those with a wrong verdict, then those nearest to the "
        "threshold. files.csv has all clips, segments.csv their segments."
    )
    return [Note(sentences), Table(head=("file", "in truth", "score", "score / threshold", "called"), rows=rows)]


def _part_of(one: ClipScore) -> str:
    if one.start_s:
        return f" (from {one.start_s:g} s on)"
    return f" (up to {one.stop_s:g} s)" if math.isfinite(one.stop_s) else ""


def _verdict(one: ClipScore, evaluation: Evaluation) -> str:
    calibration = evaluation.bundle.manifest.calibration
    severity = None if one.score is None else calibration.file_severity(one.score)
    called = "normal" if severity is None else "anomaly" if calibration.file_alarm_threshold is None else severity
    if one.role != "test":
        return f"{called} ({one.role})"
    return called if (severity is not None) == (one.clip.label == "anomaly") else f"{called} — wrong"


def provenance_table(evaluation: Evaluation, results: Results) -> Item:
    """Provenance of bundle, data set and code."""
    manifest, dataset = evaluation.bundle.manifest, evaluation.dataset
    provenance = manifest.provenance
    rows = [
        ("bundle", evaluation.bundle.id),
        ("created", manifest.created.isoformat()),
        ("recipe", provenance.recipe),
        ("seed", "-" if provenance.seed is None else str(provenance.seed)),
        ("trained on data with SHA-256", provenance.dataset_sha256 or "-"),
        ("evaluated data set", f"{dataset.root.resolve().name} ({dataset.layout}, {len(evaluation.clips)} clips)"),
        ("its SHA-256", evaluation.data_sha256),
        ("left out of training", _left_out(provenance.metrics.get("left_out_s"))),
        ("channel", "mean of all" if evaluation.channel is None else str(evaluation.channel)),
        ("evaluated with", results.code),
        *((f"trained with {name}", version) for name, version in sorted(provenance.versions.items())),
    ]
    return Table(head=("what", "which"), rows=rows, words=True)


def _left_out(seconds: object) -> str:
    """Sound left out of training because the device would not score it either."""
    if not isinstance(seconds, dict):
        return "-"
    return seconds_by_reason({str(reason): float(value) for reason, value in seconds.items()})


def _shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else " x ".join(str(n) for n in shape)


def limits(interval: Interval | None) -> str:
    """An interval as text; a dash for None."""
    return "-" if interval is None else f"{number(interval.low)} to {number(interval.high)}"
