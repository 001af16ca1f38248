"""Made-up anomalies for what carries events."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from monitor.events.event import Event
from monitor.explain.bands import Band

BEGINNING = datetime(2026, 11, 21, 10, 0, 0, tzinfo=timezone.utc)


def anomaly(number: int, *, machine: str = "fan", n_updates: int = 1, clock_synced: bool = True, run: str = "run") -> list[Event]:
    """A start, its updates and its end, a minute apart; `number` tells anomalies of one run apart and rises with time."""
    start = Event(
        event_type="start",
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{run}/{machine}/{number}")),
        seq=0,
        ts=BEGINNING + timedelta(hours=number),
        onset_ts=BEGINNING + timedelta(hours=number, seconds=-12),
        clock_synced=clock_synced,
        node="hall-2",
        machine=machine,
        severity="alarm",
        score=12.5,
        ratio=3.4,
        threshold=3.7,
        peak_ratio=3.4,
        duration_s=12.0,
        rms_dbfs=-35.1,
        bands=(Band(low_hz=2477.4, high_hz=3811.2, excess_db=13.2),),
        summary=f"{run}/{number}: 13 dB more than usual at 2.5-3.8 kHz, ähnlich",
        bundle="demo-fan@e2fabdc6df37",
    )
    later = [
        replace(start, event_type="update", seq=seq, ts=start.ts + timedelta(minutes=seq)) for seq in range(1, n_updates + 1)
    ]
    seq = n_updates + 1
    end = replace(start, event_type="end", seq=seq, ts=start.ts + timedelta(minutes=seq), end_reason="cleared")
    return [start, *later, end]


def keys(messages: Sequence[str | dict[str, Any] | Event]) -> list[tuple[str, int, str]]:
    """(id, seq, event_type) of each."""
    flat = [
        json.loads(message) if isinstance(message, str) else message.to_dict() if isinstance(message, Event) else message
        for message in messages
    ]
    return [(message["id"], message["seq"], message["event_type"]) for message in flat]


def without_repeats(payloads: Sequence[str]) -> list[str]:
    """The first of each (id, seq); a repeated one must be the same to the byte."""
    seen: dict[tuple[str, int, str], str] = {}
    for payload in payloads:
        assert seen.setdefault(keys([payload])[0], payload) == payload
    return list(seen.values())
