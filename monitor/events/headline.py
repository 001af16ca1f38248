"""The headline of an event in logs and replays: WARNING or ALARM, and how it changed."""

from monitor.events.event import Event, Severity


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
