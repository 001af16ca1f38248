"""A clock that is set while the service runs."""

import json
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from monitor import clock as clock_module
from monitor.audio.microphone import Microphone
from monitor.clock import Clock
from monitor.config import Config
from monitor.daemon.alarms import Alarms
from monitor.daemon.state_publisher import StatePublisher
from monitor.events.event import Anchor, Event
from monitor.events.pipeline import Result
from monitor.mqtt.messages import Snooze
from monitor.mqtt.outbox import Limits, Outbox
from monitor.scoring.scorer import TickScore
from tests.mqtt.anomalies import anomaly

NO_MICROPHONE = "usb-port:99-9"  # no process is started to find that out


class Computer:
    """Its wall clock, as it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.behind_s = 1e6
        self.synced = False
        monkeypatch.setattr(clock_module, "_ahead_s", lambda: time.time() - time.monotonic() - self.behind_s)
        monkeypatch.setattr(clock_module, "clock_synced", lambda: self.synced)


def test_every_step_is_told_once_and_being_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(monkeypatch)
    told: list[tuple[float, bool]] = []

    def corrected(offset_s: float, *, synced: bool) -> None:
        told.append((offset_s, synced))

    clock = Clock()
    clock.poll(corrected)
    assert told == []
    computer.behind_s = 0.0  # set at once, believed later
    clock.poll(corrected)
    clock.poll(corrected)
    computer.synced = True
    clock.poll(corrected)
    clock.poll(corrected)
    assert told == [(pytest.approx(1e6, abs=0.1), False), (0.0, True)]
    assert clock.synced


def test_a_clock_that_is_set_and_believed_at_once_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(monkeypatch)
    told: list[tuple[float, bool]] = []
    clock = Clock()
    computer.behind_s, computer.synced = 0.0, True
    for _ in range(3):
        clock.poll(lambda offset_s, *, synced: told.append((offset_s, synced)))
    ((offset_s, synced),) = told
    assert offset_s == pytest.approx(1e6, abs=0.1)
    assert synced


@pytest.mark.parametrize("step_s", [86_400.0 * 365, 3_600.0, -3_600.0, -86_400.0 * 365])
def test_a_snooze_lasts_as_long_as_ordered_when_the_clock_is_set(step_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    wall, steady = [1.8e9], [1_000.0]
    monkeypatch.setattr(clock_module, "_ahead_s", lambda: wall[0] - steady[0])
    monkeypatch.setattr(time, "monotonic", lambda: steady[0])
    alarms, published = Alarms({}), {}
    alarms.apply_config(Config.model_validate({"machines": {"fan": {"bundle": "x"}}}))

    class Outlet:
        def publish_retained(self, topic: str, payload: str) -> None:
            published[topic] = payload

        def publish(self, event: Event) -> None: ...

    timeline = Anchor(utc=datetime.fromtimestamp(wall[0], timezone.utc), sample_rate_hz=1, synced=True)
    publisher = StatePublisher(Outlet(), machine="fan", threshold=1.0, timeline=timeline, alarm=alarms["fan"], clock=alarms.clock)

    def anomaly_after(seconds: float) -> str:
        wall[0] += seconds
        steady[0] += seconds
        stop = round(steady[0])
        publisher.push(Result(TickScore(stop, stop, None, None, 2.0, 10), 2.0, "anomaly", None, 0, None, "alarm"))
        return published["fan/anomaly"]

    assert anomaly_after(1.0) == "ON"
    alarms.act("fan", Snooze(duration_s=600))
    assert anomaly_after(300.0) == "OFF"
    wall[0] += step_s
    assert anomaly_after(290.0) == "OFF"
    until = datetime.fromisoformat(json.loads(published["fan/state"])["snoozed_until"].replace("Z", "+00:00")).timestamp()
    assert until - wall[0] == pytest.approx(10.0, abs=0.1)  # as people see it
    saved = alarms.state()["fan"].snoozed_until
    assert saved is not None
    assert saved - wall[0] == pytest.approx(10.0, abs=0.1)  # as a restart needs it
    assert alarms.state() == alarms.state()  # no write a second
    assert anomaly_after(11.0) == "ON"


@pytest.mark.parametrize("step_s", [-1.0, 3_600.0, 86_400.0 * 365])
@pytest.mark.parametrize("when", ["before the event", "after the event", "after the correction"])
def test_an_event_within_a_second_of_a_step_is_shifted_once(when: str, step_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was made before or after the step is known, because its time and the correction come from one reading."""
    real_time, set_s = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real_time() + set_s[0])
    monkeypatch.setattr(clock_module, "clock_synced", lambda: False)
    clock, microphone = Clock(), Microphone(NO_MICROPHONE, wanted_rate_hz=16_000)
    timeline = microphone.add_reader(channel=None, sample_rate_hz=16_000).timeline
    outbox = Outbox(":memory:", Limits(messages=10, n_bytes=10**6))

    def corrected(offset_s: float, *, synced: bool) -> None:
        with outbox.transaction():
            outbox.correct(offset_s, synced=synced)

    def second(make_event: bool) -> None:
        if make_event and when == "before the event":
            set_s[0] = step_s
        microphone.poll()
        if make_event:
            at = timeline.at(timeline.sample_at(time.monotonic()))
            event = replace(anomaly(1, clock_synced=False)[0], ts=at, onset_ts=at - timedelta(seconds=12))
            with outbox.transaction():
                outbox.add(event)
        if make_event and when == "after the event":
            set_s[0] = step_s
        clock.poll(corrected)
        if make_event and when == "after the correction":
            set_s[0] = step_s
        microphone.set_clocks(clock.now(time.monotonic()), monotonic_s=time.monotonic(), synced=clock.synced)

    for number in range(4):
        second(number == 1)
    message = json.loads(outbox.after(0, 1)[0].payload)
    ts, onset = (datetime.fromisoformat(message[key].replace("Z", "+00:00")).timestamp() for key in ("ts", "onset_ts"))
    assert ts == pytest.approx(time.time(), abs=0.3)
    assert ts - onset == pytest.approx(12.0, abs=0.01)
    microphone.close()
