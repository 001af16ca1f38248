"""Compare two reports: which is better, metrics with differences, and main figures."""

import json
from pathlib import Path
from typing import Any

from monitor.errors import UsageError
from train.report.better import better
from train.report.files import KIND, to_csv
from train.report.page import Front, Item, Pair, Section, Table, number, render_page
from train.report.style import ReportFigure
from train.report.verdict import Verdict
from train.report.write import COMPARISON, METRICS, PAGE, check_out, replace_folder

_FIGURES = {
    "histograms": "Histograms of the error",
    "scatter": "Score of every clip",
    "sweep": "False positives and negatives over thresholds",
    "confusion": "Confusion matrix",
    "roc": "ROC curve",
    "pr": "Precision-recall curve",
    "groups": "AUC by machine, id, section and domain",
    "bands": "Error of each frequency band",
    "losses": "Loss curves",
}
_METRICS: dict[str, tuple[str, ...]] = {
    "AUC": ("auc", "value"),
    "pAUC": ("pauc", "value"),
    "average precision": ("average_precision", "value"),
    "harmonic mean (DCASE)": ("harmonic_mean",),
    "precision": ("at_threshold", "precision"),
    "recall": ("at_threshold", "recall"),
    "accuracy": ("at_threshold", "accuracy"),
    "F1": ("at_threshold", "f1"),
    "false alarm rate": ("at_threshold", "false_alarm_rate"),
    "recall at the alarm level": ("at_alarm_threshold", "recall"),
    "false alarm rate at the alarm level": ("at_alarm_threshold", "false_alarm_rate"),
    "alarm threshold": ("at_alarm_threshold", "threshold"),
    "false positives": ("at_threshold", "false_positives"),
    "false negatives": ("at_threshold", "false_negatives"),
    "threshold": ("at_threshold", "threshold"),
    "AUC of segments, float32 model": ("float", "auc"),
    "AUC of segments, as shipped": ("float", "auc_shipped"),
    "rank correlation of the two": ("float", "rank_correlation"),
    "inflation over float32": ("float", "inflation"),
    "model, bytes": ("model", "bytes"),
    "multiply-accumulates a window": ("model", "macs_per_window"),
    "measured µs a window": ("model", "microseconds_per_window"),
}
_GROUP = ("kind", "name")


def compare(one: Path, other: Path, out: Path) -> Verdict:
    """Write a page and a table that compare two reports, and return the verdict; UsageError where a folder is not a report."""
    a, b = _read(one), _read(other)
    if out.exists() and any(out.samefile(folder) for folder in (one, other)):
        raise UsageError(f"--out must not be one of the compared folders, got {out}")
    check_out(out, kind="comparison")
    try:
        is_same = a["dataset"]["sha256"] == b["dataset"]["sha256"]
        said = better(one, other, is_same_data=is_same, doubts=_doubts(a, b))
        replace_folder(out, _files(one, other, a, b, said))
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{one} or {other}: {METRICS} is incomplete: {type(error).__name__} {error}") from error
    return said


def _files(one: Path, other: Path, a: dict[str, Any], b: dict[str, Any], said: Verdict) -> dict[str, bytes]:
    """The page and the table."""
    names = (one.resolve().name, other.resolve().name)
    rows = [
        *((name, _at(a, keys), _at(b, keys)) for name, keys in _METRICS.items()),
        *_group_rows(a, b),
    ]
    shown = [(name, _text(x), _text(y), _difference(x, y)) for name, x, y in rows if x is not None or y is not None]
    head = ("metric", f"A: {names[0]}", f"B: {names[1]}", "B - A")
    sections = [
        Section("metrics", "Metrics", [Table(head=head, rows=shown), _intervals(a, b, head[:3])]),
        Section("figures", "Figures", _pairs(one, other)),
        Section("provenance", "Provenance", [Table(head=("what", *head[1:3]), rows=_provenance(a, b), words=True)]),
    ]
    raw = [(name, x, y, None if x is None or y is None else y - x) for name, x, y in rows]
    page = render_page(f"Comparison: A is {names[0]}, B is {names[1]}", sections, front=Front(verdict=said))
    return {PAGE: page, COMPARISON: to_csv(("metric", "a", "b", "difference"), raw)}


def _read(folder: Path) -> dict[str, Any]:
    path = folder / METRICS
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{folder}: not a report of `train evaluate`: {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON of `train evaluate`: {error}") from error
    if not isinstance(found, dict) or (found.get("kind"), found.get("schema")) != (KIND, 1):
        raise UsageError(f"{path}: must be of kind {KIND} and schema 1")
    return found


def _at(content: dict[str, Any], keys: tuple[str, ...]) -> float | None:
    """The number at a chain of keys."""
    found: Any = content
    for key in keys:
        found = None if found is None else found.get(key)
    return found if isinstance(found, int | float) else None


def _group_rows(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, float | None, float | None]]:
    """AUC and pAUC of each group that either report has."""
    by_name = [{" ".join(group[key] for key in _GROUP): group for group in content["groups"]} for content in (a, b)]
    names = [*by_name[0], *(name for name in by_name[1] if name not in by_name[0])]
    left, right = by_name
    return [
        (f"{title} of {name}", _at(left.get(name, {}), (key,)), _at(right.get(name, {}), (key,)))
        for name in names
        for key, title in (("auc", "AUC"), ("pauc", "pAUC"))
    ]


def _doubts(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    found = []
    if a["dataset"]["sha256"] != b["dataset"]["sha256"]:
        return ["The two were evaluated on different data, which may explain differences."]
    counts = [(one["dataset"]["n_test_normal"], one["dataset"]["n_test_anomaly"]) for one in (a, b)]
    if counts[0] != counts[1]:
        text = "A was tested on {} normal and {} anomalous clips, B on {} and {}: only those that both tested count above."
        found.append(text.format(*counts[0], *counts[1]))
    return found


def _intervals(a: dict[str, Any], b: dict[str, Any], head: tuple[str, ...]) -> Item:
    def text(area: dict[str, Any]) -> str:
        interval = area["interval"]
        return "-" if interval is None else f"{number(interval['low'])} to {number(interval['high'])}"

    areas = {"AUC": "auc", "pAUC": "pauc", "average precision": "average_precision"}
    rows = [(name, text(a[key]), text(b[key])) for name, key in areas.items()]
    title = "95% intervals (a difference may be due to chance where they overlap widely)"
    return Table(title=title, head=head, rows=rows)


def _pairs(one: Path, other: Path) -> list[Item]:
    """The figures that both reports have."""
    found: list[Item] = []
    for key, title in _FIGURES.items():
        paths = [folder / "figures" / f"{key}.png" for folder in (one, other)]
        if all(path.is_file() for path in paths):
            figures = (
                ReportFigure(key=f"{key}-{which}", title=f"{which}: {title}", reading="", png=path.read_bytes())
                for which, path in zip("AB", paths, strict=True)
            )
            found.append(Pair(*figures))
    return found


def _provenance(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str, str]]:
    def pick(content: dict[str, Any]) -> dict[str, str]:
        provenance = content["provenance"]
        return {
            "bundle": content["bundle"],
            "recipe": str(provenance["recipe"]),
            "seed": "-" if provenance.get("seed") is None else str(provenance["seed"]),
            "data set": content["dataset"]["name"],
            "its SHA-256": content["dataset"]["sha256"],
            "evaluated with": content["code"],
            **{f"trained with {name}": version for name, version in sorted(provenance.get("versions", {}).items())},
        }

    left, right = pick(a), pick(b)
    return [(key, left.get(key, "-"), right.get(key, "-")) for key in dict.fromkeys((*left, *right))]


def _text(value: float | None) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return number(value, digits=4)


def _difference(x: float | None, y: float | None) -> str:
    if x is None or y is None:
        return "-"
    if isinstance(x, int) and isinstance(y, int):
        return f"{y - x:+,}"
    return f"{y - x:+.4f}"
