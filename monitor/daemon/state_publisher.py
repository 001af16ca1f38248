"""What MQTT says of one machine: its events, its state and its anomaly flag, no more often than docs/mqtt.md says."""

from datetime import datetime, timezone
from typing import Any, Protocol

from monitor.daemon.alarm import Alarm, Flag, Marks
from monitor.events.drift import Drift
from monitor.events.event import Event, EventClock, Severity, rfc3339
from monitor.events.pipeline import State, Step
from monitor.events.slow_path import SlowPath
from monitor.mqtt.messages import StateMessage
from monitor.scoring.quality import Quality

STATE_EVERY_S = 10.0


class Outlet(Protocol):
    """Where messages go; topics count from the node's."""

    def publish_retained(self, topic: str, payload: str) -> None:
        """The current value of a topic."""
        ...

    def publish(self, event: Event) -> None:
        """One message of an anomaly's life, which must not be lost."""
        ...


class StatePublisher:
    """Turn steps into messages: `state` on change and at most every 10 s of sound, `anomaly` on change and when it rings."""

    def __init__(
        self,
        outlet: Outlet,
        *,
        machine: str,
        threshold: float | None,
        alarm: Alarm | None = None,
        drift: Drift | None = None,
        slow_path: SlowPath | None = None,
    ) -> None:
        self._outlet = outlet
        self._machine = machine
        self._threshold = threshold
        self._alarm = alarm or Alarm()
        self._drift = drift
        self._slow_path = slow_path
        self._state: tuple[State, str | None, Severity | None, Marks] | None = None
        self._anomaly: tuple[Flag, int] | None = None
        self._available: str | None = None
        self._said_at = 0

    def step(self, step: Step, timeline: EventClock) -> None:
        """Say what has changed with this tick, or with a command since the last one."""
        event = step.event.id if step.event is not None and step.event.event_type != "end" else None
        self._alarm.update(step.state, step.severity, event=event, now=timeline.at(step.tick.stop).timestamp())
        if self._drift is not None and step.state == "normal" and step.tick.score is not None and (step.ratio or 0.0) < 1.0:
            self._drift.update(step.tick.score)
        due = step.tick.stop - self._said_at >= STATE_EVERY_S * timeline.sample_rate_hz
        if due or (step.state, step.reason, step.severity, self._alarm.marks) != self._state:
            score = None if step.tick.score is None else round(step.tick.score, 6)
            ratio = None if step.ratio is None else round(step.ratio, 4)
            self._say_state(step.state, step.reason, step.severity, timeline.at(step.since), score, ratio, step.tick.quality)
            self._said_at = step.tick.stop
        self._say_anomaly(step.state, step.severity)
        if step.event is not None:
            self._outlet.publish(step.event)

    def available(self, online: bool) -> None:
        """Say whether microphone and bundle are usable."""
        payload = "online" if online else "offline"
        if payload != self._available:
            self._outlet.publish_retained(f"{self._machine}/availability", payload)
            self._available = payload

    def silent(self, state: State, reason: str | None, now: datetime) -> None:
        """Nobody listens: leave no retained `normal` behind."""
        self._say_state(state, reason, None, now, None, None, None)
        self._say_anomaly(state, None)

    def _say_state(
        self,
        state: State,
        reason: str | None,
        severity: Severity | None,
        since: datetime,
        score: float | None,
        ratio: float | None,
        quality: Quality | None,
    ) -> None:
        marks = self._alarm.marks
        until = marks.snoozed_until
        message = StateMessage(
            state=state,
            reason=reason,
            severity=severity,
            acknowledged=marks.acknowledged,
            snoozed=until is not None,
            snoozed_until=None if until is None else rfc3339(datetime.fromtimestamp(until, timezone.utc)),
            flooding=marks.flooding,
            recent_anomalies=marks.recent,
            score=score,
            ratio=ratio,
            threshold=None if self._threshold is None else round(self._threshold, 6),
            **_levels(quality),
            drift=None if self._drift is None or self._drift.value is None else round(self._drift.value, 2),
            **_slow_path(self._slow_path),
            since=rfc3339(since),
        )
        self._outlet.publish_retained(f"{self._machine}/state", message.text)
        self._state = (state, reason, severity, marks)

    def _say_anomaly(self, state: State, severity: Severity | None) -> None:
        anomaly = (self._alarm.flag(state, severity), self._alarm.rings)
        if anomaly != self._anomaly:
            self._outlet.publish_retained(f"{self._machine}/anomaly", anomaly[0])
            self._anomaly = anomaly


def _slow_path(slow: SlowPath | None) -> dict[str, Any]:
    if slow is None:
        return dict.fromkeys(("slow_path", "slow_path_missing_h", "slow_path_ratio"))
    ratio = None if slow.ratio is None else round(slow.ratio, 3)
    return {"slow_path": slow.status, "slow_path_missing_h": round(slow.missing_h, 2), "slow_path_ratio": ratio}


def _levels(quality: Quality | None) -> dict[str, Any]:
    if quality is None:
        return dict.fromkeys(("rms_dbfs", "peak", "dc", "clipped_fraction", "zero_fraction"))
    return {
        "rms_dbfs": round(quality.rms_dbfs, 1),
        "peak": round(quality.peak, 4),
        "dc": round(quality.dc, 5),
        "clipped_fraction": round(quality.clipped_fraction, 4),
        "zero_fraction": round(quality.zero_fraction, 4),
    }
