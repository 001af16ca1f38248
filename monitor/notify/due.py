"""When a message is due: the rules of `anomaly` (docs/mqtt.md, Alarms), for one machine and one minimum severity."""

from dataclasses import dataclass
from typing import Literal, Protocol

from monitor.events.event import Severity, State

Kind = Literal["start", "worse", "repeat", "flood"]


class AlarmMarks(Protocol):
    """The flags of an alarm."""

    @property
    def acknowledged(self) -> bool:
        """Whether the alarm is acknowledged."""
        ...

    @property
    def snoozed_until(self) -> float | None:
        """The end of a snooze."""
        ...

    @property
    def flooding(self) -> bool:
        """Whether alarms come too often."""
        ...

    @property
    def recent(self) -> int:
        """The number of alarms of the last 10 minutes."""
        ...


class AlarmView(Protocol):
    """An alarm, as far as messages depend on it."""

    @property
    def marks(self) -> AlarmMarks:
        """The flags."""
        ...

    def update(self, state: State, severity: Severity | None, *, event: str | None, now: float) -> None:
        """Update with the state after a tick."""
        ...

    def flag(self, state: State, severity: Severity | None) -> str:
        """ON, OFF or None."""
        ...


@dataclass(frozen=True)
class _Sent:
    """The last message."""

    event: str | None  # None: of a flood
    severity: Severity | None
    at: float


class Due:
    """A message is due when an anomaly begins or becomes an alarm, when a snooze ends, every `repeat_s`, and once a flood.

    The caller passes in the time. `counting` is an alarm of the minimum severity, which only this object updates.
    """

    def __init__(self, counting: AlarmView) -> None:
        self._counting = counting
        self._event: str | None = None  # the last anomaly
        self._sent: _Sent | None = None  # None as soon as the machine is normal, or snoozed
        self._last_event: str | None = None  # of the last message
        self._severity: Severity | None = None  # of the last anomaly
        self._acknowledged: Severity | None = None  # the severity that was acknowledged

    @property
    def n_recent(self) -> int:
        """Alarms of the last 10 minutes."""
        return self._counting.marks.recent

    def update(
        self,
        state: State,
        severity: Severity | None,
        *,
        event: str | None,
        marks: AlarmMarks,
        repeat_s: float | None,
        now: float,
    ) -> Kind | None:
        """Update with the state after a tick. `event` is the anomaly that began or became more severe with it.

        `marks` are those of the machine's alarm, which people acknowledge and snooze. `repeat_s` is None if this anomaly
        cannot be acknowledged.
        """
        self._counting.update(state, severity, event=event, now=now)
        self._event = event or self._event
        self._acknowledged = (self._acknowledged or self._severity or severity) if marks.acknowledged else None
        self._severity = severity or self._severity
        flag = self._counting.flag(state, severity)
        if flag == "OFF" or marks.snoozed_until is not None:
            self._sent = None
        if flag != "ON" or marks.snoozed_until is not None:
            return None
        kind = self._kind(severity, marks, repeat_s, now)
        if kind is not None:
            event_sent = None if self._counting.marks.flooding else self._event
            self._sent, self._last_event = _Sent(event_sent, severity, now), self._event
            self._acknowledged = severity if marks.acknowledged else None
        return kind

    def _kind(self, severity: Severity | None, marks: AlarmMarks, repeat_s: float | None, now: float) -> Kind | None:
        sent, flooding = self._sent, self._counting.marks.flooding
        if sent is not None and not flooding and sent.severity == "warning" and severity == "alarm":
            return "worse"  # also if the warning was acknowledged
        if marks.acknowledged and (self._acknowledged == "alarm" or severity == "warning"):
            return None
        if flooding and (sent is None or sent.event is not None):
            return "flood"
        if sent is None:
            return "start" if self._event != self._last_event else "repeat"
        if sent.event is None and not flooding:  # the flood is over, but not the anomaly
            self._sent = _Sent(self._event, severity, sent.at)
        elif sent.event not in (None, self._event):
            return "start"
        return "repeat" if repeat_s is not None and not 0.0 <= now - sent.at < repeat_s else None
