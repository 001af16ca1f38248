"""The alarm of one machine: ringing, acknowledgement, snooze and floods, by examples and by random histories."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from monitor.config.fields import MAX_SNOOZE_S
from monitor.daemon.alarm import FLOOD_ABOVE, FLOOD_UNTIL_BELOW, FLOOD_WITHIN_S, Alarm
from monitor.daemon.alarms import Alarms
from monitor.daemon.state_file import AlarmState, ServiceState
from monitor.events.event import Severity, State

NOW = 1_800_000_000.0
REPEAT_S = 3_600.0


@dataclass
class History:
    """An alarm that hears a tick a second."""

    alarm: Alarm
    now: float = NOW
    n_events: int = 0

    def update(self, state: State, *, seconds: int = 1, begins: bool = False, level: Severity = "alarm") -> str:
        """What `anomaly` reads in the end."""
        severity = level if state == "anomaly" else None
        for second in range(seconds):
            self.now += 1.0
            self.n_events += begins and second == 0
            event = f"event-{self.n_events}" if begins and second == 0 else None
            self.alarm.update(state, severity, event=event, now=self.now)
        return self.alarm.flag(state, severity)

    def anomaly(self, *, seconds: int = 30, level: Severity = "alarm") -> str:
        return self.update("anomaly", seconds=seconds, begins=True, level=level)

    def escalate(self) -> str:
        """The open warning becomes an alarm, which an `update` says."""
        self.now += 1.0
        self.alarm.update("anomaly", "alarm", event=f"event-{self.n_events}", now=self.now)
        return self.alarm.flag("anomaly", "alarm")


def fresh(repeat_s: float | None = REPEAT_S, *, from_severity: Severity = "alarm") -> History:
    return History(Alarm(repeat_s=repeat_s, from_severity=from_severity))


def test_it_rings_once_and_again_after_the_interval_until_somebody_acknowledges() -> None:
    history = fresh()
    assert history.update("normal") == "OFF"
    assert history.anomaly(seconds=3_600) == "ON"
    assert history.alarm.rings == 1
    history.update("anomaly", seconds=3_600)
    assert history.alarm.rings == 2
    assert history.alarm.acknowledge(None) is None
    assert history.update("anomaly", seconds=100_000) == "ON"
    assert history.alarm.rings == 2


def test_without_an_interval_it_rings_once() -> None:
    history = fresh(repeat_s=None)
    history.anomaly(seconds=100_000)
    assert history.alarm.rings == 1


def test_an_acknowledgement_holds_until_the_machine_is_normal_again() -> None:
    history = fresh()
    history.anomaly()
    history.alarm.acknowledge(None)
    for state in ("unknown", "idle", "starting"):
        assert history.update(state, seconds=90) == "None"
    assert history.anomaly() == "ON"  # another event, the same trouble
    assert history.alarm.marks.acknowledged
    history.update("normal")
    history.anomaly()
    assert not history.alarm.marks.acknowledged


def test_an_acknowledgement_holds_over_a_restart() -> None:
    history = History(Alarm(repeat_s=REPEAT_S, acknowledged=True))
    history.update("starting", seconds=10)
    assert history.anomaly(seconds=10_000) == "ON"
    assert history.alarm.rings == 1
    assert history.alarm.marks.acknowledged
    history.update("normal")
    assert not history.alarm.marks.acknowledged


def test_only_an_anomaly_can_be_acknowledged_and_only_the_one_that_is_meant() -> None:
    history = fresh()
    assert history.alarm.acknowledge(None) == "there is no alarm to acknowledge"
    history.anomaly()
    assert history.alarm.acknowledge("event-0") == "the anomaly must be event-1, got event-0"
    assert not history.alarm.marks.acknowledged
    assert history.alarm.acknowledge("event-1") is None
    assert history.alarm.acknowledge(None) is None  # twice is once
    history.update("normal")
    assert history.alarm.acknowledge("event-1") == "there is no alarm to acknowledge"


def test_a_snoozed_machine_reads_off_and_rings_when_the_snooze_ends() -> None:
    history = fresh()
    history.anomaly()
    history.alarm.snooze(600, history.now)
    assert history.update("anomaly", seconds=599) == "OFF"
    assert history.update("unknown") == "None"
    assert history.update("anomaly") == "ON"
    assert history.alarm.rings == 2
    assert history.alarm.marks.snoozed_until is None


def test_a_snooze_ends_on_command_and_a_longer_one_than_allowed_is_cut() -> None:
    history = fresh()
    history.anomaly()
    history.alarm.snooze(10 * MAX_SNOOZE_S, history.now)
    assert history.alarm.marks.snoozed_until == history.now + MAX_SNOOZE_S
    assert history.update("anomaly") == "OFF"
    history.alarm.snooze(0, history.now)
    assert history.update("anomaly") == "ON"


def test_a_clock_that_is_set_back_does_not_prolong_a_snooze_beyond_its_bound() -> None:
    history = fresh()
    history.anomaly()
    history.alarm.snooze(600, history.now)
    history.now -= 2 * MAX_SNOOZE_S
    assert history.update("anomaly") == "ON"


def test_eleven_anomalies_in_ten_minutes_are_one_flood() -> None:
    history = fresh()
    history.update("normal")
    for _ in range(FLOOD_ABOVE):
        history.anomaly(seconds=20)
        assert history.update("normal", seconds=20) == "OFF"
    assert history.alarm.rings == FLOOD_ABOVE
    assert not history.alarm.marks.flooding
    history.anomaly(seconds=20)
    assert history.alarm.marks.flooding
    rings = history.alarm.rings
    for _ in range(5):
        assert history.update("normal", seconds=20) == "ON"
        assert history.anomaly(seconds=20) == "ON"
    assert history.alarm.rings == rings  # counted, not rung
    assert history.alarm.marks.recent >= FLOOD_ABOVE
    while history.update("normal") == "ON":
        assert history.alarm.marks.recent >= FLOOD_UNTIL_BELOW
    assert history.alarm.marks.recent == FLOOD_UNTIL_BELOW - 1
    assert not history.alarm.marks.flooding


def restarted(history: History) -> History:
    """The same alarm in the next run of the service."""
    saved = ServiceState(alarms={"fan": AlarmState.of(history.alarm, disabled=False)}).model_dump_json()
    loaded = Alarms(ServiceState.model_validate_json(saved).alarms)
    return History(loaded["fan"], history.now, history.n_events)


def test_a_restart_does_not_forget_a_flood() -> None:
    history = fresh()
    for _ in range(FLOOD_ABOVE):
        history.anomaly(seconds=20)
        history.update("normal", seconds=5)
    history = restarted(history)
    assert history.update("normal") == "OFF"
    assert history.alarm.marks.recent == FLOOD_ABOVE
    history.anomaly(seconds=20)
    assert history.alarm.marks.flooding
    for _ in range(10):
        history.anomaly(seconds=5)
    history = restarted(history)
    assert history.update("normal") == "ON"
    history.update("normal", seconds=round(FLOOD_WITHIN_S) - 40)
    assert FLOOD_UNTIL_BELOW <= history.alarm.marks.recent <= FLOOD_ABOVE
    history = restarted(history)
    assert history.update("normal") == "ON"  # until there are fewer than 5
    history.update("normal", seconds=60)
    assert restarted(history).update("normal") == "OFF"


def test_what_a_restart_finds_from_long_ago_or_from_a_clock_that_was_wrong_does_not_count() -> None:
    for step_s in (FLOOD_WITHIN_S + 1, -86_400.0):
        history = fresh()
        for _ in range(FLOOD_ABOVE + 1):
            history.anomaly(seconds=5)
        history = restarted(history)
        history.now += step_s
        assert history.update("normal") == "OFF"
        assert history.alarm.marks.recent == 0


def test_what_is_kept_of_a_flood_is_bounded_and_changes_only_with_an_anomaly() -> None:
    history = fresh()
    for _ in range(50):
        history.anomaly(seconds=5)
    latest = history.alarm.latest
    assert len(latest) == FLOOD_ABOVE + 1
    history.update("normal", seconds=5_000)
    assert history.alarm.latest == latest


def test_a_flood_is_acknowledged_as_one() -> None:
    history = fresh(repeat_s=60)
    for _ in range(FLOOD_ABOVE + 1):
        history.anomaly(seconds=20)
        history.update("normal", seconds=5)
    history.alarm.acknowledge(None)
    rings = history.alarm.rings
    for _ in range(3):
        history.update("normal", seconds=20)
        history.anomaly(seconds=90)
    assert history.alarm.marks.acknowledged
    assert history.alarm.rings == rings


def test_a_warning_calls_nobody_until_it_becomes_an_alarm() -> None:
    history = fresh()
    history.update("normal")
    assert history.anomaly(seconds=4_000, level="warning") == "OFF"
    assert (history.alarm.rings, history.alarm.marks.recent) == (0, 0)
    assert history.alarm.acknowledge(None) == "there is no alarm to acknowledge"
    assert history.escalate() == "ON"
    assert (history.alarm.rings, history.alarm.marks.recent) == (1, 1)
    assert history.update("anomaly", seconds=500) == "ON"
    history.escalate()  # an update a minute of the same anomaly is no second alarm
    assert history.alarm.marks.recent == 1
    assert history.alarm.acknowledge("event-1") is None


def test_whoever_wants_to_is_called_by_warnings_and_once_only() -> None:
    history = fresh(from_severity="warning")
    assert history.anomaly(level="warning") == "ON"
    assert history.alarm.acknowledge("event-1") is None
    assert history.escalate() == "ON"
    assert (history.alarm.rings, history.alarm.marks.recent) == (1, 1)
    assert history.alarm.marks.acknowledged


def test_a_changed_setting_holds_for_the_anomaly_that_is_open() -> None:
    history = fresh()
    assert history.anomaly(level="warning") == "OFF"
    history.alarm.from_severity = "warning"
    assert history.update("anomaly", level="warning") == "ON"
    assert history.alarm.acknowledge("event-1") is None
    history.alarm.from_severity = "alarm"
    assert history.update("anomaly", level="warning") == "OFF"


def test_warnings_make_no_flood_where_they_call_nobody() -> None:
    history = fresh()
    for _ in range(FLOOD_ABOVE + 5):
        history.anomaly(seconds=5, level="warning")
        assert history.update("normal", seconds=5) == "OFF"
    assert history.alarm.marks.recent == 0
    assert not history.alarm.marks.flooding


STATES: list[State] = ["starting", "normal", "anomaly", "idle", "unknown"]
deeds = st.one_of(
    st.tuples(
        st.just("hear"),
        st.sampled_from(STATES),
        st.sampled_from(["warning", "alarm"]),
        st.booleans(),
        st.floats(0.1, 2_000.0),
    ),
    st.tuples(st.just("ack"), st.sampled_from([None, "event-0", "event-1"])),
    st.tuples(st.just("snooze"), st.integers(0, MAX_SNOOZE_S)),
    st.tuples(st.just("clock"), st.floats(-1e6, 1e6)),
)


@given(st.lists(deeds, max_size=60), st.one_of(st.none(), st.floats(60, 10_000)), st.sampled_from(["warning", "alarm"]))
def test_whatever_happens_the_flag_means_what_is_written(
    history: list[tuple[object, ...]], repeat_s: float | None, least: Severity
) -> None:
    alarm, now = Alarm(repeat_s=repeat_s, from_severity=least), NOW
    for deed in history:
        before = alarm.marks, alarm.rings
        match deed:
            case ("hear", state, level, begins, float(seconds)):
                now += seconds
                severity, event = (level, "event-1" if begins else None) if state == "anomaly" else (None, None)
                alarm.update(state, severity, event=event, now=now)  # type: ignore[arg-type]
                flag, marks = alarm.flag(state, severity), alarm.marks  # type: ignore[arg-type]
                calls = severity is not None and (severity == "alarm" or least == "warning")
                assert (flag == "None") == (state not in ("normal", "anomaly"))
                assert flag != "ON" or marks.snoozed_until is None
                assert flag != "ON" or calls or marks.flooding
                assert flag != "OFF" or not calls or marks.snoozed_until is not None
                assert not (marks.acknowledged and state == "normal" and not marks.flooding)
                assert marks.snoozed_until is None or 0 < marks.snoozed_until - now <= MAX_SNOOZE_S
                assert marks.flooding <= (marks.recent >= FLOOD_UNTIL_BELOW)
                assert marks.recent <= FLOOD_ABOVE or marks.flooding
                assert marks.recent <= before[0].recent + calls
                assert alarm.rings - before[1] <= (flag == "ON")
            case ("ack", event):
                refused = alarm.acknowledge(event)  # type: ignore[arg-type]
                assert alarm.marks.acknowledged if refused is None else alarm.marks == before[0]
            case ("snooze", int(seconds)):
                alarm.snooze(seconds, now)
            case ("clock", float(step)):
                now += step
        assert alarm.rings >= before[1]


@given(st.lists(st.tuples(st.integers(1, 120), st.integers(1, 120)), max_size=60))
def test_no_ten_minutes_have_more_rings_than_a_flood_has_alarms(lasting: list[tuple[int, int]]) -> None:
    history, rung = fresh(repeat_s=None), []
    for anomaly_s, normal_s in lasting:
        for state, seconds in (("anomaly", anomaly_s), ("normal", normal_s)):
            for second in range(seconds):
                before = history.alarm.rings
                history.update(state, begins=state == "anomaly" and second == 0)  # type: ignore[arg-type]
                rung += [history.now] * (history.alarm.rings - before)
    for at in rung:
        assert sum(at <= other < at + FLOOD_WITHIN_S for other in rung) <= FLOOD_ABOVE + 1
