"""What MQTT says of one machine: its events, its state and its anomaly flag, no more often than docs/mqtt.md says."""

from datetime import datetime
from typing import Protocol

from monitor.core.event import Anchor, Event, rfc3339
from monitor.core.pipeline import State, Step
from monitor.sinks.jsonl import to_json

STATE_EVERY_S = 10.0
_FLAGS: dict[State, str] = {"normal": "OFF", "anomaly": "ON"}


class Publish(Protocol):
    """Send a payload to a topic below the node's."""

    def __call__(self, topic: str, payload: str, *, retain: bool) -> None:
        """Publish once."""
        ...


class MachineFeed:
    """Turn steps into messages: `state` on change and at most every 10 s of sound, `anomaly` on change."""

    def __init__(self, publish: Publish, *, machine: str, threshold: float) -> None:
        self._publish = publish
        self._machine = machine
        self._threshold = threshold
        self._state: tuple[State, str | None] | None = None
        self._said_at = 0

    def step(self, step: Step, anchor: Anchor) -> None:
        """Say what has changed with this tick."""
        due = step.tick.stop - self._said_at >= STATE_EVERY_S * anchor.sample_rate_hz
        changed = (step.state, step.reason) != self._state
        if changed or due:
            score = None if step.tick.score is None else round(step.tick.score, 6)
            ratio = None if step.ratio is None else round(step.ratio, 4)
            self._say(step.state, step.reason, score, ratio, round(step.tick.rms_dbfs, 1), rfc3339(anchor.at(step.since)))
            self._said_at = step.tick.stop
        if step.event is not None:
            self.event(step.event)

    def event(self, event: Event) -> None:
        """Publish one event."""
        self._publish(f"{self._machine}/event", to_json(event.to_dict()), retain=False)

    def close(self, now: datetime) -> None:
        """Nobody listens any more: leave no retained `normal` behind."""
        self._say("unknown", "replay_ended", None, None, None, rfc3339(now))

    def _say(
        self, state: State, reason: str | None, score: float | None, ratio: float | None, rms_dbfs: float | None, since: str
    ) -> None:
        message = {
            "schema": 1,
            "state": state,
            "reason": reason,
            "acknowledged": False,
            "snoozed": False,
            "flooding": False,
            "score": score,
            "ratio": ratio,
            "threshold": round(self._threshold, 6),
            "rms_dbfs": rms_dbfs,
            "since": since,
        }
        self._publish(f"{self._machine}/state", to_json(message), retain=True)
        if self._state is None or _FLAGS.get(state) != _FLAGS.get(self._state[0]):
            self._publish(f"{self._machine}/anomaly", _FLAGS.get(state, "None"), retain=True)
        self._state = (state, reason)
