"""The text of a message: an event and the reason for the message, put into the templates of a target."""

import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Literal

from monitor.config import NotifyConfig
from monitor.events.event import Event, Severity
from monitor.events.headline import excess_text
from monitor.notify.due import Kind

MAX_TITLE, MAX_BODY = 250, 4_000
NotifyType = Literal["info", "warning", "failure"]  # Apprise's
_HEADLINES: dict[tuple[Kind, Severity], str] = {
    ("start", "warning"): "Warning",
    ("start", "alarm"): "Alarm",
    ("worse", "alarm"): "Alarm, was a warning",
    ("repeat", "warning"): "Still a warning",
    ("repeat", "alarm"): "Still an alarm",
}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message to one target."""

    target: str
    event: str  # id of the event
    severity: Severity
    title: str
    body: str

    @property
    def notify_type(self) -> NotifyType:
        """Apprise's type, on which colours and symbols of many services depend."""
        return "failure" if self.severity == "alarm" else "warning"

    def marked(self, mark: str) -> "Message":
        """The same with a word before its title."""
        return replace(self, title=f"{mark}: {self.title}"[:MAX_TITLE])


def headline(kind: Kind, severity: Severity, *, n_recent: int) -> str:
    """The reason for the message in words."""
    if kind == "flood":
        return f"Flood of alarms, {n_recent} within 10 minutes"
    return _HEADLINES.get((kind, severity), severity.capitalize())


def render(config: NotifyConfig, target: str, event: Event, *, name: str, headline: str, now: datetime) -> Message:
    """The message about an event. `now` is an aware time; times in the text are local."""
    values: dict[str, Any] = {
        "headline": headline,
        "name": name,
        "machine": event.machine,
        "node": event.node,
        "severity": event.severity,
        "summary": event.summary or "The sound differs.",
        "ratio": f"{event.ratio:.2f}",
        "excess": excess_text(event),
        "since": _local(event.onset_ts),
        "time": _local(now),
        "event": event.id,
    }
    title = " ".join(config.title.format_map(values).split())
    return Message(
        target=target,
        event=event.id,
        severity=event.severity,
        title=title[:MAX_TITLE],
        body=config.body.format_map(values)[:MAX_BODY],
    )


def test_event(node: str, machine: str, now: datetime) -> Event:
    """An event for a test. It is marked in every text."""
    return Event(
        event_type="start", id=str(uuid.uuid4()), seq=0, ts=now, onset_ts=now, clock_synced=True,
        node=node, machine=machine, severity="alarm", score=0.0, ratio=0.0, threshold=1.0, peak_ratio=0.0, duration_s=0.0,
        rms_dbfs=0.0, bands=(), summary="TEST: This is a test. No machine has a fault.", bundle="none", test=True,
    )  # fmt: skip


def _local(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S")
