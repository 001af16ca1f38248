"""The events that clients see change: open ones, and those that ended a short time ago."""

from collections import OrderedDict
from typing import Any

from monitor.clips.service import ClipService
from monitor.daemon.watch.watchers import Watchers
from monitor.events.event import Event

MAX_EVENTS = 64


class LiveEvents:
    """Adds what the event message lacks, and sends an event again when that changes. All calls come from the event loop."""

    def __init__(self, watchers: Watchers, clips: ClipService) -> None:
        self._watchers = watchers
        self._clips = clips
        self._events: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def publish(self, event: Event) -> None:
        """Receive a message of an anomaly."""
        message = event.to_dict()
        before = self._events.get(event.id, {"started_at": message["ts"], "acknowledged_at": None})
        message |= {key: before[key] for key in ("started_at", "acknowledged_at")}
        self._events[event.id] = message
        while len(self._events) > MAX_EVENTS:
            self._events.popitem(last=False)
        self.changed(event.id)

    def acknowledge(self, event_id: str, at: str) -> None:
        """Record that a person has acknowledged an event."""
        if event_id in self._events and self._events[event_id]["acknowledged_at"] is None:
            self._events[event_id]["acknowledged_at"] = at
            self.changed(event_id)

    def changed(self, event_id: str) -> None:
        """Send an event with its current marks, if it is a recent one."""
        if event_id in self._events:
            self._watchers.publish_event(self.complete(self._events[event_id]))

    def complete(self, event: dict[str, Any]) -> dict[str, Any]:
        """An event, with whether it has a clip and a picture."""
        about = event["machine"], event["id"]
        return {**event, "has_clip": self._clips.has_clip(*about), "has_picture": self._clips.has_picture(*about)}
