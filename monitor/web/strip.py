"""The last 24 hours of a machine in 96 parts."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from monitor.events.event import from_rfc3339
from monitor.web.queries import rfc3339

N_PARTS, STEP_S = 96, 900


def strip_range(now: datetime) -> tuple[datetime, datetime, int]:
    """Start, end and step; whole quarters of an hour, the current one included."""
    end = datetime.fromtimestamp((now.timestamp() // STEP_S + 1) * STEP_S, timezone.utc)
    return end - timedelta(seconds=N_PARTS * STEP_S), end, STEP_S


def strip_of(points: Iterable[Mapping[str, Any]], start: datetime) -> list[dict[str, Any]]:
    """One entry per part. Its state is `anomaly` if there was any, else the one that lasted longest, else null."""
    found: dict[int, tuple[float | None, str | None]] = {}
    for point in points:
        at = from_rfc3339(point["t"])
        ratio, states = point.get("ratio") or {}, point.get("states") or {}
        state = "anomaly" if states.get("anomaly") else max(states, key=states.__getitem__, default=None)
        found[int((at - start).total_seconds() // STEP_S)] = ratio.get("max"), state
    parts = ((number, found.get(number, (None, None))) for number in range(N_PARTS))
    return [
        {"t": rfc3339(start + timedelta(seconds=number * STEP_S)), "ratio_max": ratio, "state": state}
        for number, (ratio, state) in parts
    ]
