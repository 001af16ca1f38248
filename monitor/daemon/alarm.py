"""The alarm of one machine: ringing, acknowledgement, snooze and floods. The caller passes in the time."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from monitor.config.fields import MAX_SNOOZE_S
from monitor.events.event import Severity, State

FLOOD_WITHIN_S = 600.0  # ISA-18.2: more than 10 alarms in 10 minutes are a flood
FLOOD_ABOVE = 10
FLOOD_UNTIL_BELOW = 5  # a flood ends when there are fewer alarms than this in 10 minutes
Flag = Literal["ON", "OFF", "None"]


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The flags of an alarm that are published with the machine's state."""

    acknowledged: bool = False
    snoozed_until: float | None = None  # s since 1970
    flooding: bool = False
    recent: int = 0  # alarms that began within the last FLOOD_WITHIN_S


class Alarm:
    """Tracks one machine's state. Times are in s since 1970, all from one clock that is never set (`SteadyClock`).

    Only anomalies of at least `from_severity` count. The alarm rings when such an anomaly begins, when a snooze ends, and
    every `repeat_s` until it is acknowledged. An acknowledgement lasts until the machine is normal again, even across a
    restart, a dead microphone or a stopped machine.
    """

    def __init__(
        self,
        *,
        from_severity: Severity = "alarm",
        repeat_s: float | None = None,
        acknowledged: bool = False,
        snoozed_until: float | None = None,
        flooding: bool = False,
        starts: Sequence[float] = (),
    ) -> None:
        """`starts` is the `latest` of an earlier run."""
        self.from_severity = from_severity
        self.repeat_s = repeat_s
        self.rings = 0  # number of rings so far
        self._acknowledged = acknowledged
        self._snoozed_until = snoozed_until
        self._flooding = flooding
        self._open: str | None = None  # the last anomaly that began, of any severity
        self._event: str | None = None  # the last anomaly that counts, until it is over
        self._starts = deque(starts, maxlen=100)
        self._latest = deque(starts, maxlen=FLOOD_ABOVE + 1)
        self._rung_at: float | None = None

    @property
    def marks(self) -> Marks:
        """The flags after the last tick or command."""
        return Marks(
            acknowledged=self._acknowledged,
            snoozed_until=self._snoozed_until,
            flooding=self._flooding,
            recent=len(self._starts),
        )

    @property
    def event(self) -> str | None:
        """The id of the anomaly that can be acknowledged; None if there is none."""
        return self._event

    @property
    def latest(self) -> tuple[float, ...]:
        """The start times of the latest alarms, for the state file; as many as make a flood."""
        return tuple(self._latest)

    def update(self, state: State, severity: Severity | None, *, event: str | None, now: float) -> None:
        """Update with the state after a tick. `event` is the id of the anomaly that began or became more severe with it."""
        while self._starts and not _within(self._starts[0], now, FLOOD_WITHIN_S):
            self._starts.popleft()
        self._open = event or self._open
        if self._calls(state, severity) and self._open != self._event:
            self._starts.append(now)
            self._latest.append(now)
            self._event = self._open
        n_recent = len(self._starts)
        self._flooding = n_recent > FLOOD_ABOVE or (self._flooding and n_recent >= FLOOD_UNTIL_BELOW)
        if self._snoozed_until is not None and not 0.0 < self._snoozed_until - now <= MAX_SNOOZE_S:
            self._snoozed_until = None
        if state == "normal" and not self._flooding:
            self._open = self._event = None
            self._acknowledged = False
        self._ring(self.flag(state, severity), now)

    def flag(self, state: State, severity: Severity | None) -> Flag:
        """The payload of `anomaly`. A flood counts as one long anomaly, and a snoozed machine is OFF."""
        if state not in ("normal", "anomaly"):
            return "None"
        is_on = self._calls(state, severity) or self._flooding
        return "ON" if is_on and self._snoozed_until is None else "OFF"

    def acknowledge(self, event: str | None) -> str | None:
        """Acknowledge the anomaly; if `event` is given, only that one. Return the reason if this is refused."""
        if self._event is None:
            return "there is no alarm to acknowledge"
        if event not in (None, self._event):
            return f"the anomaly must be {self._event}, got {event}"
        self._acknowledged = True
        return None

    def snooze(self, duration_s: float, now: float) -> None:
        """Report OFF for `duration_s`; 0 ends a snooze."""
        self._snoozed_until = now + min(duration_s, MAX_SNOOZE_S) if duration_s > 0 else None

    def reset(self) -> None:
        """Clear everything, because the machine was disabled."""
        self._acknowledged, self._flooding = False, False
        self._snoozed_until = self._open = self._event = self._rung_at = None
        self._starts.clear()
        self._latest.clear()

    def _calls(self, state: State, severity: Severity | None) -> bool:
        return state == "anomaly" and severity in ("alarm", self.from_severity)

    def _ring(self, flag: Flag, now: float) -> None:
        if flag != "ON":
            self._rung_at = None
        elif self._rung_at is None or self._repeats(self._rung_at, now):
            self._rung_at = now
            self.rings += 1

    def _repeats(self, rung_at: float, now: float) -> bool:
        return self.repeat_s is not None and not self._acknowledged and not _within(rung_at, now, self.repeat_s)


def _within(earlier: float, later: float, max_s: float) -> bool:
    return 0.0 <= later - earlier < max_s
