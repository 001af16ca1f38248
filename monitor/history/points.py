"""Steps merged into the points of a chart; pure."""

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from monitor.events.event import rfc3339
from monitor.history.steps import DTYPE, STATES, Steps

MAX_POINTS = 2_000
WIDTHS_S = (10, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 7 * 86_400)
HOUR_S = 3_600


def width(begin: int, end: int, wanted_s: float) -> int:
    """The width of the points between two times, in s: at least `wanted_s`, and so that there are at most MAX_POINTS."""
    least = max(wanted_s, (end - begin) / (MAX_POINTS - 1))
    return next((one for one in WIDTHS_S if one >= least), math.ceil(least / WIDTHS_S[-1]) * WIDTHS_S[-1])


def merged(steps: Steps, firsts: np.ndarray[Any, Any]) -> Steps:
    """One row for each run of rows. `firsts` are the indexes at which the runs begin; times must not decrease."""
    rows = np.zeros(len(firsts), DTYPE)
    rows["t"] = steps["t"][firsts]
    rows["n"] = np.add.reduceat(steps["n"], firsts)
    for kind in ("ratio", "rms"):
        rows[f"{kind}_min"] = np.fmin.reduceat(steps[f"{kind}_min"], firsts)
        rows[f"{kind}_max"] = np.fmax.reduceat(steps[f"{kind}_max"], firsts)
    scores = np.where(np.isnan(steps["ratio_mean"]), 0, steps["n"])
    rows["ratio_mean"] = _mean(steps["ratio_mean"], scores, firsts)
    rows["rms_mean"] = _mean(steps["rms_mean"], np.maximum(steps["n"], 1), firsts)
    # An hour counts as much as an hour even if it was not scored, so every row has the same weight.
    counts = np.diff(np.append(firsts, len(steps)))[:, np.newaxis]
    rows["states"] = np.add.reduceat(steps["states"], firsts, axis=0) / counts
    ends = np.append(firsts[1:], len(steps))
    for row, first, end in zip(rows, firsts, ends, strict=True):
        row["ratio_p50"], row["ratio_p95"] = _quantiles(steps[first:end])
    return rows


def points(rows: Sequence[Steps], begin: int, end: int, width_s: int) -> list[dict[str, Any]]:
    """The points from `begin` up to `end`, s since 1970, as in docs/control.md. One without scores has null values."""
    steps = np.concatenate([np.zeros(0, DTYPE), *rows])
    steps = steps[(steps["t"] >= begin - begin % width_s) & (steps["t"] < end)]
    steps = steps[np.argsort(steps["t"], kind="stable")]
    groups = steps["t"] // width_s
    firsts = np.flatnonzero(np.diff(groups, prepend=-1)) if len(steps) else np.array([], np.int64)
    found = (
        {int(group) * width_s: row for group, row in zip(groups[firsts], merged(steps, firsts), strict=True)}
        if len(steps)
        else {}
    )
    first = begin - begin % width_s
    return [_point(t, found.get(t)) for t in range(first, max(end, first), width_s)]


def to_hours(steps: Steps) -> Steps:
    """Rows of an hour; see `merged`."""
    if not len(steps):
        return steps
    return merged(steps, np.flatnonzero(np.diff(steps["t"] // HOUR_S, prepend=-1)))


def _point(t: int, row: Any) -> dict[str, Any]:
    ratios = {name: None if row is None else _value(row[f"ratio_{name}"], 4) for name in ("min", "mean", "max", "p50", "p95")}
    levels = {name: None if row is None else _value(row[f"rms_{name}"], 1) for name in ("min", "mean", "max")}
    shares = () if row is None else zip(STATES, row["states"], strict=True)
    return {
        "t": rfc3339(datetime.fromtimestamp(t, timezone.utc)),
        "n": 0 if row is None else int(row["n"]),
        "ratio": ratios,
        "rms_dbfs": levels,
        "states": {state: round(float(share), 4) for state, share in shares if share > 0},
    }


def _value(value: Any, digits: int) -> float | None:
    return None if np.isnan(value) else round(float(value), digits)


def _mean(values: Any, weights: Any, firsts: Any) -> Any:
    weights = np.where(np.isnan(values), 0, weights).astype(np.float64)
    totals = np.add.reduceat(weights, firsts)
    sums = np.add.reduceat(np.nan_to_num(values) * weights, firsts)
    return np.divide(sums, totals, out=np.full(len(firsts), np.nan), where=totals > 0)


def _quantiles(steps: Steps) -> tuple[float, float]:
    """Median and 95 % quantile. Of each row, only its own minimum, median, 95 % quantile and maximum are known."""
    if len(steps) == 1:
        return steps["ratio_p50"][0], steps["ratio_p95"][0]
    steps = steps[steps["n"] > 0]
    if not len(steps):
        return math.nan, math.nan
    values = np.concatenate([steps[f"ratio_{name}"] for name in ("min", "p50", "p95", "max")])
    weights = np.concatenate([share * steps["n"] for share in (0.05, 0.70, 0.20, 0.05)])
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    last = len(values) - 1
    median, high = (min(int(np.searchsorted(reached, share - 1e-9)), last) for share in (0.5, 0.95))
    return float(values[order[median]]), float(values[order[high]])
