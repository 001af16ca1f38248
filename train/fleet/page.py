"""fleet.html: one self-contained page with a row for every machine, sortable without a network."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jinja2

from monitor.learning.report_text import count, duration, per_week, significant

if TYPE_CHECKING:
    from train.fleet.results import Row

_WIDTH, _HEIGHT = 120, 28  # of a sparkline, pixels


def render(rows: "Sequence[Row]", *, now: str) -> bytes:
    """The page, UTF-8; all texts are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("train", "fleet"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    n_failed, n_needed = sum(row.has_failed for row in rows), sum(bool(row.needs) for row in rows)
    hours = sum(row.hours or 0.0 for row in rows)
    written = now[:16].replace("T", " ")
    machines, verb = count(len(rows), "machine"), "needs" if n_needed == 1 else "need"
    headline = f"{n_needed} of {machines} {verb} attention" if n_needed else f"{machines}, all in order"
    return (
        environment.get_template("fleet.html.j2")
        .render(
            rows=[_cells(row) for row in rows],
            headline=headline,
            state="alarm" if n_failed else "warning" if n_needed else "normal",
            facts=f"{duration(hours, 2)} of normal sound; {count(n_failed, 'machine')} failed; written {written} UTC",
        )
        .encode("utf-8", "replace")
    )


def _cells(row: "Row") -> dict[str, object]:
    """The texts of a row, and the values by which it is sorted."""
    tested = None if row.found is None else row.found + (row.missed or 0)
    return {
        "row": row,
        "state": "alarm" if row.has_failed else "warning" if row.needs else "normal",
        "hours": "" if row.hours is None else duration(row.hours, 2),
        "promise": _promise(row),
        "found": "" if tested is None else f"{row.found} of {tested}",
        "found_share": None if not tested else (row.found or 0) / tested,
        "false_alarms": "" if row.false_alarms is None else f"{row.false_alarms} of {row.n_normal}",
        "auc": "" if row.auc is None else f"{row.auc:.3f}",
        "drift": "" if row.drift is None else f"{row.drift:+.1f} sd",
        "points": _points(row),
        "limit": round(_y(1.0, _top(row)), 1),
        "spark_text": _spark_text(row),
        "width": _WIDTH,
        "height": _HEIGHT,
        "nearest": "" if row.nearest is None else f"{row.nearest} ({significant(row.nearest_db or 0.0, 2)} dB)",
    }


def _promise(row: "Row") -> str:
    """The false alarms that the thresholds aim at."""
    verified = " ✓" if row.is_verified else ""
    if row.promised_per_week is None:
        return "" if row.key is None else "none"
    if row.promised_alarms_per_week is not None:
        return f"1 a day, 1 a month{verified}"
    return f"{per_week(row.promised_per_week)}{verified}"


def _ratios(row: "Row") -> list[float]:
    return [day["median_ratio"] for day in row.days if day["median_ratio"] is not None]


def _top(row: "Row") -> float:
    return max([1.2, *_ratios(row)])


def _y(ratio: float, top: float) -> float:
    return 2 + (_HEIGHT - 4) * (1 - ratio / top)


def _points(row: "Row") -> str:
    """The polyline of the median ratio by day; a single day is a short line."""
    ratios, top = _ratios(row), _top(row)
    if not ratios:
        return ""
    ratios = ratios * 2 if len(ratios) == 1 else ratios
    step = (_WIDTH - 4) / (len(ratios) - 1)
    return " ".join(f"{2 + step * at:.1f},{_y(ratio, top):.1f}" for at, ratio in enumerate(ratios))


def _spark_text(row: "Row") -> str:
    ratios = _ratios(row)
    if not ratios:
        return ""
    return f"{count(len(ratios), 'day')}: median score {ratios[0]:.2f} x the threshold at first, {ratios[-1]:.2f} x at the end"
