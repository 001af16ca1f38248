"""Write a report's folder: index.html, metrics.json, CSV tables and the figures as PNG."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from monitor.errors import UsageError
from monitor.files import atomic_replace_dir
from train.evaluation.evaluate import Evaluation
from train.evaluation.metrics import RESAMPLES
from train.evaluation.results import compute_results
from train.report.files import metrics_json, tables, write_folder
from train.report.page import Item, render_page
from train.report.sections import close_ups, report_front, report_sections
from train.report.style import ReportFigure
from train.report.verdict import Verdict, verdict

METRICS, PAGE, COMPARISON = "metrics.json", "index.html", "comparison.csv"
_OURS = re.compile(
    r"index\.html|metrics\.json|figures/[a-z]+\.png|"
    r"(files|segments|classification_report|thresholds|groups|layers|comparison)\.csv"
)


def write_report(evaluation: Evaluation, out: Path, *, n_resamples: int = RESAMPLES, commit: str | None = None) -> Verdict:
    """Write the report of an evaluation to `out`, a new folder or a report to replace; returns its verdict."""
    check_out(out)
    results = compute_results(evaluation, n_resamples=n_resamples, commit=commit)
    said, details = verdict(evaluation, results), close_ups(evaluation)
    front, sections = report_front(evaluation, said, details), report_sections(evaluation, results, details)
    title = f"Report: bundle {evaluation.bundle.manifest.name} on recordings {evaluation.dataset.root.resolve().name}"
    replace_folder(
        out,
        {
            PAGE: render_page(title, sections, front=front),
            METRICS: to_json(metrics_json(evaluation, results)),
            **tables(evaluation, results),
            **figures([*front.figures, *(item for section in sections for item in section.items)]),
        },
    )
    return said


def figures(items: Iterable[Item]) -> dict[str, bytes]:
    """The figures of a page as files."""
    return {f"figures/{item.key}.png": item.png for item in items if isinstance(item, ReportFigure)}


def to_json(content: dict[str, Any]) -> bytes:
    """JSON without NaN, which many readers reject."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def check_out(out: Path, *, kind: Literal["report", "comparison"] = "report") -> None:
    """Refuse to replace anything but the same kind, so that a comparison cannot delete a report."""
    ours, other = (METRICS, COMPARISON) if kind == "report" else (COMPARISON, METRICS)
    same = (out / PAGE).is_file() and (out / ours).is_file() and not (out / other).exists()
    if out.exists() and not same and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"--out must be a new folder or a {kind} to replace, got {out}")


def replace_folder(out: Path, content: dict[str, bytes]) -> None:
    """Write a folder atomically; files of others in it are kept."""
    with atomic_replace_dir(out, is_ours=lambda name: _OURS.fullmatch(name) is not None) as aside:
        write_folder(aside, content)
