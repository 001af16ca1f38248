"""The state publisher: publishes the events, state and anomaly flag of one machine, as often as specified in docs/mqtt.md."""

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Protocol

from monitor.clock import SteadyClock
from monitor.daemon.alarm import Alarm, Flag, Marks
from monitor.events.drift import Drift
from monitor.events.event import Event, EventClock, Severity, State, rfc3339
from monitor.events.pipeline import Result
from monitor.events.slow_path import SlowPath
from monitor.mqtt.messages import StateMessage
from monitor.scoring.quality import Quality

STATE_EVERY_S = 10.0
WATCHED_EVERY_S = 0.5  # for clients of the control socket


class Outlet(Protocol):
    """The destination of messages. Topics are relative to the node's."""

    def publish_retained(self, topic: str, payload: str) -> None:
        """Publish a retained message."""
        ...

    def publish(self, event: Event) -> None:
        """Publish one message of an anomaly; it must not be lost."""
        ...


class StatePublisher:
    """Publishes `state` on change and every 10 s of sound, `anomaly` on change and when the alarm rings, and events.

    `clock` is the alarm's, as for commands. Without it, the alarm uses the `timeline` of the sound. `watch` receives the state
    after every tick; it must not fail.
    """

    def __init__(
        self,
        outlet: Outlet,
        *,
        machine: str,
        threshold: float | None,
        timeline: EventClock,
        alarm: Alarm | None = None,
        drift: Drift | None = None,
        slow_path: SlowPath | None = None,
        clock: SteadyClock | None = None,
        watch: Callable[[StateMessage], None] | None = None,
    ) -> None:
        self._outlet = outlet
        self._machine = machine
        self._threshold = threshold
        self._timeline = timeline
        self._alarm = alarm or Alarm()
        self._drift = drift
        self._slow_path = slow_path
        self._clock = clock
        self._watch = watch
        self._state: tuple[State, str | None, Severity | None, Marks] | None = None
        self._anomaly: tuple[Flag, int] | None = None
        self._available: str | None = None
        self._published_at = self._watched_at = 0  # sample index

    def push(self, result: Result) -> None:
        """Publish what has changed with this tick, or with a command since the last one."""
        try:
            self._publish_result(result)
        finally:  # whatever happens, the event must not be lost
            if result.event is not None:
                self._outlet.publish(result.event)

    def close(self, event: Event | None) -> None:
        """Publish the last event."""
        if event is not None:
            self._outlet.publish(event)

    def publish_available(self, available: bool) -> None:
        """Publish whether the microphone and the bundle are usable."""
        payload = "online" if available else "offline"
        if payload != self._available:
            self._outlet.publish_retained(f"{self._machine}/availability", payload)
            self._available = payload

    def publish_state(self, state: State, reason: str | None, since: datetime) -> None:
        """Publish a state without a result, so that no retained `normal` is left behind."""
        self._publish(self._message(state, reason, since))
        self._publish_anomaly(state, None)

    def _publish_result(self, result: Result) -> None:
        at = self._timeline.at(result.tick.stop)
        event = result.event.id if result.event is not None and result.event.event_type != "end" else None
        now = at.timestamp() if self._clock is None else self._clock.now()
        self._alarm.update(result.state, result.severity, event=event, now=now)
        score, ratio = result.tick.score, result.ratio
        if self._drift is not None and result.state == "normal" and score is not None and (ratio or 0.0) < 1.0:
            self._drift.update(score)
        stop, rate_hz = result.tick.stop, self._timeline.sample_rate_hz
        changed = (result.state, result.reason, result.severity, self._alarm.marks) != self._state
        due = changed or stop - self._published_at >= STATE_EVERY_S * rate_hz
        watched = self._watch is not None and (due or stop - self._watched_at >= WATCHED_EVERY_S * rate_hz)
        if due or watched:
            since = self._timeline.at(result.since)
            message = self._message(result.state, result.reason, since, result.severity, score, ratio, result.tick.quality)
            self._watched_at = stop
            if due:
                self._published_at = stop
                self._publish(message)
            elif self._watch is not None:
                self._watch(message)
        self._publish_anomaly(result.state, result.severity)

    def _publish(self, message: StateMessage) -> None:
        self._outlet.publish_retained(f"{self._machine}/state", message.text)
        self._state = (message.state, message.reason, message.severity, self._alarm.marks)
        if self._watch is not None:
            self._watch(message)

    def _message(
        self,
        state: State,
        reason: str | None,
        since: datetime,
        severity: Severity | None = None,
        score: float | None = None,
        ratio: float | None = None,
        quality: Quality | None = None,
    ) -> StateMessage:
        marks = self._alarm.marks
        until = marks.snoozed_until
        if until is not None and self._clock is not None:
            until += self._clock.step_s
        return StateMessage(
            state=state,
            reason=reason,
            severity=severity,
            acknowledged=marks.acknowledged,
            snoozed=until is not None,
            snoozed_until=None if until is None else rfc3339(datetime.fromtimestamp(until, timezone.utc)),
            flooding=marks.flooding,
            recent_anomalies=marks.recent,
            score=None if score is None else round(score, 6),
            ratio=None if ratio is None else round(ratio, 4),
            threshold=None if self._threshold is None else round(self._threshold, 6),
            **_levels(quality),
            drift=None if self._drift is None or self._drift.value is None else round(self._drift.value, 2),
            **_slow_path(self._slow_path),
            since=rfc3339(since),
        )

    def _publish_anomaly(self, state: State, severity: Severity | None) -> None:
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
