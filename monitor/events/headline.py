"""An event in words for logs, replays and messages: its headline, and how far the sound is from normal.

`x the threshold` always refers to one threshold: that for warnings, of segments, a ratio of 1. What other rules measure is named
otherwise: the fast path in dB above all normal sound, the slow path as a multiple of its limit.
"""

import math

from monitor.events.event import Event, RaisedBy, Severity


def headline(event: Event, *, before: Severity | None) -> str:
    """Such as `ALARM STARTED`, `WARNING became ALARM` or `ALARM ended (cleared)`. `before` is the previous message's severity."""
    name = event.severity.upper()
    if event.event_type == "start":
        return f"{name} STARTED"
    if event.event_type == "end":
        return f"{name} ended ({event.end_reason})"
    if before is not None and before != event.severity:
        return f"{before.upper()} became {name}"
    return f"{name} goes on" if event.ratio >= 1.0 else f"{name} quieter"


def excess_text(event: Event) -> str:
    """How far the sound is from normal, on the scale of the rule that decided."""
    if event.test:
        return "a test"
    if event.decided_by == "fast":
        return f"{event.score or 0.0:.0f} dB above all normal sound"
    if event.score is None:  # silence is the anomaly
        return f"{_db(event.ratio):.0f} dB below the quietest normal sound"
    return ratio_text(event.ratio, event.decided_by)


def ratio_text(ratio: float, by: RaisedBy) -> str:
    """A ratio, such as the peak of an anomaly, with the name of its scale."""
    scales = {"segments": "the threshold", "fast": "the limit for gross faults", "slow": "the limit of the slow path"}
    return f"{ratio:.2f} x {scales[by]}"


def _db(ratio: float) -> float:
    return 20.0 * math.log10(max(1.0, ratio))
