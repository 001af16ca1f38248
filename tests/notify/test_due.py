"""Which messages are due, tick by tick: beginnings, repeats, acknowledgements, snoozes, floods."""

from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.daemon.alarm import FLOOD_ABOVE, Alarm
from monitor.events.event import Severity, State
from monitor.notify.due import Due, Kind

REPEAT_S = 3_600.0


@dataclass
class History:
    """A machine's alarm and the messages to targets of one minimum severity, a tick a second."""

    level: Severity = "alarm"
    from_severity: Severity = "alarm"
    now: float = 1_800_000_000.0
    n_events: int = 0
    alarm: Alarm = field(init=False)
    counting: Alarm = field(init=False)
    due: Due = field(init=False)

    def __post_init__(self) -> None:
        self.alarm = Alarm(from_severity=self.from_severity)
        self.counting = Alarm(from_severity=self.level)
        self.due = Due(self.counting)

    def tick(self, state: State, severity: Severity | None = None, *, event: str | None = None) -> Kind | None:
        self.now += 1.0
        self.alarm.update(state, severity, event=event, now=self.now)
        repeat_s = REPEAT_S if severity in ("alarm", self.from_severity) else None
        return self.due.update(state, severity, event=event, marks=self.alarm.marks, repeat_s=repeat_s, now=self.now)

    def stay(self, state: State, severity: Severity | None = None, *, seconds: int = 30) -> list[Kind]:
        return [kind for _ in range(seconds) if (kind := self.tick(state, severity)) is not None]

    def anomaly(self, severity: Severity = "alarm", *, seconds: int = 30) -> list[Kind]:
        """A new one, which lasts."""
        self.n_events += 1
        first = self.tick("anomaly", severity, event=f"event-{self.n_events}")
        return [*([] if first is None else [first]), *self.stay("anomaly", severity, seconds=seconds - 1)]


def test_an_alarm_is_sent_once_and_repeated_until_it_is_acknowledged() -> None:
    history = History()
    assert history.stay("normal") == []
    assert history.anomaly(seconds=3_600) == ["start"]
    assert history.stay("anomaly", "alarm", seconds=7_200) == ["repeat", "repeat"]
    assert history.alarm.acknowledge(None) is None
    assert history.stay("anomaly", "alarm", seconds=20_000) == []


def test_after_a_normal_moment_the_next_anomaly_is_sent() -> None:
    history = History()
    history.anomaly()
    history.alarm.acknowledge(None)
    assert history.stay("normal") == []
    assert history.anomaly() == ["start"]


def test_a_warning_is_sent_to_targets_that_want_it_and_not_repeated_because_nobody_can_acknowledge_it() -> None:
    assert History(level="alarm").anomaly("warning", seconds=10_000) == []
    assert History(level="warning").anomaly("warning", seconds=10_000) == ["start"]
    assert History(level="warning", from_severity="warning").anomaly("warning", seconds=10_000) == ["start", "repeat", "repeat"]


@pytest.mark.parametrize(("level", "kind"), [("warning", "worse"), ("alarm", "start")])
@pytest.mark.parametrize("is_acknowledged", [False, True])
def test_a_warning_that_becomes_an_alarm_is_sent_even_if_it_was_acknowledged(
    level: Severity, kind: Kind, is_acknowledged: bool
) -> None:
    history = History(level=level, from_severity="warning")
    history.anomaly("warning")
    if is_acknowledged:
        assert history.alarm.acknowledge(None) is None
        assert history.stay("anomaly", "warning", seconds=10_000) == []
    first = history.tick("anomaly", "alarm", event="event-1")
    repeats = [] if is_acknowledged else ["repeat", "repeat"]
    assert [first, *history.stay("anomaly", "alarm", seconds=10_000)] == [kind, *repeats]


def test_an_acknowledgement_just_before_a_warning_becomes_an_alarm_is_of_the_warning() -> None:
    history = History(level="alarm", from_severity="warning")
    history.anomaly("warning")
    assert history.alarm.acknowledge(None) is None
    assert history.tick("anomaly", "alarm", event="event-1") == "start"


def test_a_snooze_silences_and_its_end_is_sent_if_the_anomaly_lasts() -> None:
    history = History()
    history.anomaly()
    history.alarm.snooze(600, history.now)
    assert history.stay("anomaly", "alarm", seconds=590) == []
    assert history.stay("anomaly", "alarm", seconds=30) == ["repeat"]
    history.alarm.snooze(600, history.now)
    history.stay("normal", seconds=10)
    assert history.anomaly(seconds=500) == []


def test_a_lost_microphone_during_an_anomaly_is_no_new_message_unless_the_anomaly_is_new() -> None:
    history = History()
    history.anomaly()
    assert history.stay("unknown", seconds=20) == []
    assert history.stay("anomaly", "alarm") == []
    history.stay("unknown", seconds=100)
    assert history.anomaly() == ["start"]
    history.alarm.acknowledge(None)
    history.stay("unknown", seconds=100)
    assert history.anomaly() == []  # the same problem was acknowledged


def test_a_flood_is_one_message() -> None:
    history = History()
    sent = []
    for _ in range(3 * FLOOD_ABOVE):
        sent += history.anomaly(seconds=10)
        sent += history.stay("normal", seconds=5)
    assert sent == ["start"] * FLOOD_ABOVE + ["flood"]
    assert history.due.n_recent > FLOOD_ABOVE
    assert history.stay("normal", seconds=1_200) == []
    assert history.anomaly() == ["start"]


def test_the_end_of_a_flood_does_not_send_the_anomaly_that_is_still_open() -> None:
    history = History()
    for _ in range(FLOOD_ABOVE):
        history.anomaly(seconds=5)
        history.stay("normal", seconds=5)
    assert history.anomaly(seconds=1_500) == ["flood"]
    assert not history.alarm.marks.flooding
    assert history.stay("anomaly", "alarm", seconds=4_000) == ["repeat"]


STEPS = st.one_of(
    st.tuples(st.sampled_from(["normal", "idle", "unknown"]), st.none(), st.booleans()),
    st.tuples(st.just("anomaly"), st.sampled_from(["warning", "alarm"]), st.booleans()),
    st.tuples(st.sampled_from(["acknowledge", "snooze", "wake"]), st.none(), st.booleans()),
)


@given(st.lists(STEPS, max_size=80), st.sampled_from(["warning", "alarm"]), st.sampled_from(["warning", "alarm"]))
def test_whatever_happens_nothing_is_sent_without_reason_and_nothing_is_missed(
    steps: list[tuple[str, Severity | None, bool]], level: Severity, from_severity: Severity
) -> None:
    history = History(level=level, from_severity=from_severity)
    is_told = False
    for what, severity, is_new in steps:
        if what == "acknowledge":
            history.alarm.acknowledge(None)
            continue
        if what in ("snooze", "wake"):
            history.alarm.snooze(300.0 if what == "snooze" else 0.0, history.now)
            continue
        state = cast(State, what)
        history.now += 20.0
        history.n_events += is_new and state == "anomaly"
        kind = history.tick(state, severity, event=f"event-{history.n_events}" if is_new and state == "anomaly" else None)
        flag = history.counting.flag(state, severity)
        is_snoozed = history.alarm.marks.snoozed_until is not None
        if kind is not None:
            assert flag == "ON"
            assert not is_snoozed
        is_told = (is_told or kind is not None) and flag != "OFF" and not is_snoozed
        if flag == "ON" and not is_snoozed and not history.alarm.marks.acknowledged:
            assert is_told
