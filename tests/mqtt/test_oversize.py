"""Messages that are larger than the broker takes: found out, set aside and counted; never for a network that is only bad."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.config import MqttConfig
from monitor.events.event import Event
from monitor.mqtt.courier import Courier
from monitor.mqtt.outbox import Row
from monitor.mqtt.oversize import QUIET_S, STRIKES, Doubts
from monitor.mqtt.pending import Parcel
from tests.broker import running_broker
from tests.mqtt.anomalies import anomaly, keys, without_repeats
from tests.subscriber import Subscriber, retained
from tests.waiting import wait_until

BASE = "stethos/hall-2"
LIMIT = 2_000
QUICK = {"keepalive_s": 10, "reconnect_min_s": 0.1, "reconnect_max_s": 0.2}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.mqtt.oversize.QUIET_S", 0.5)


def large(event: Event) -> Event:
    return replace(event, summary=LIMIT * "x")


@contextmanager
def running_courier(port: int, state_dir: Path, protocol: str) -> Iterator[Courier]:
    courier = Courier(
        MqttConfig.model_validate({"port": port, "protocol": protocol, **QUICK}), node="hall-2", state_dir=state_dir
    )
    courier.start()
    try:
        yield courier
    finally:
        courier.stop(5.0)


# mosquitto answers what is above its message_size_limit as if it had taken it where MQTT 3.1.1 has no word for it
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("protocol", "setting"), [("3.1.1", "max_packet_size"), ("5", "max_packet_size"), ("5", "message_size_limit")]
)
def test_an_event_that_is_too_large_is_dropped_and_counted_and_what_follows_arrives(
    protocol: str, setting: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    small, other, last = anomaly(1), anomaly(2), anomaly(3)
    heard, poison = anomaly(4), [large(event) for event in anomaly(5)]
    with (
        running_broker(tmp_path, f"allow_anonymous true\n{setting} {LIMIT}\n") as broker,
        Subscriber(broker) as watcher,
        running_courier(broker.port, tmp_path, protocol) as courier,
    ):
        courier.present("fan/made-up", "{}")
        for event in [*small, *poison, *other, heard[0], large(heard[1]), heard[2], *last]:
            courier.event(event)
        wait_until(lambda: (courier.counts.delivered, courier.counts.dropped) == (11, 4), 60.0)
        wait_until(lambda: courier.counts.queued == 0 and keys(watcher.on(f"{BASE}/fan/event")[-1:]) == keys(last[-1:]))
    told = without_repeats(watcher.on(f"{BASE}/fan/event"))
    assert keys(told) == keys([*small, *other, heard[0], heard[2], *last])
    dropped = [record.getMessage() for record in caplog.records if "are more than the broker takes" in record.getMessage()]
    assert [line.split("dropped: ")[1] for line in dropped][-1] == f"update {heard[1].id}, seq 1"
    assert f"start {poison[0].id}, seq 0" in dropped[0]
    assert "Traceback" not in caplog.text


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("protocol", "setting"), [("3.1.1", "max_packet_size"), ("5", "max_packet_size"), ("5", "message_size_limit")]
)
def test_a_retained_message_that_is_too_large_is_left_out_and_nothing_old_stays_in_its_place(
    protocol: str, setting: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        running_broker(tmp_path, f"allow_anonymous true\n{setting} {LIMIT}\n") as broker,
        running_courier(broker.port, tmp_path, protocol) as courier,
    ):
        courier.present("fan/made-up", "a small picture")
        courier.present("fan/made-up-2", "{}")
        wait_until(lambda: f"{BASE}/fan/made-up" in retained(broker))
        courier.present("fan/made-up", 3 * LIMIT * "x")
        for event in anomaly(1):
            courier.event(event)
        wait_until(lambda: courier.counts.delivered == 3, 60.0)
        wait_until(lambda: retained(broker) == {f"{BASE}/status": "online", f"{BASE}/fan/made-up-2": "{}"})
        n_connections = courier.counts.connections
        courier.present("fan/made-up", 4 * LIMIT * "x")
        courier.present("fan/made-up-2", "still there")
        wait_until(lambda: retained(broker).get(f"{BASE}/fan/made-up-2") == "still there")
        assert courier.counts.connections == n_connections
        assert courier.counts.dropped == 0
        if (protocol, setting) == ("5", "max_packet_size"):  # exactly as large as the broker says
            topic = f"{BASE}/fan/made-up-2"
            fits = next(n for n in range(LIMIT) if Parcel(topic=topic, payload=bytes(n)).n_bytes == LIMIT) * "x"
            courier.present("fan/made-up-2", fits)
            wait_until(lambda: retained(broker).get(topic) == fits)
            assert courier.counts.connections == n_connections == 1
        courier.present("fan/made-up", "a small picture again")
        wait_until(lambda: retained(broker).get(f"{BASE}/fan/made-up") == "a small picture again")
    assert caplog.text.count("bytes are more than the broker takes; left out") == 1


def parcel(row: int, n_bytes: int) -> Parcel:
    return Parcel(topic="t", payload=bytes(n_bytes), row=Row(row=row, machine="fan", payload=""))


def end_alone(doubts: Doubts, one: Parcel, now: float, *, hung_up: bool = True) -> Parcel | None:
    """A connection that has stood for long enough, takes something small, and ends upon this message."""
    doubts.begin(now)
    doubts.answered(parcel(0, 10), is_too_large=False, now=now)
    assert doubts.allow(one, n_under_way=0, now=now + 2 * QUIET_S)
    doubts.sent(now + 2 * QUIET_S)
    return doubts.end([one], hung_up=hung_up, n_under_way=1, now=now + 2 * QUIET_S + 0.1)


def test_a_message_is_guilty_when_connections_end_upon_it_alone_again_and_again() -> None:
    doubts, one = Doubts(), parcel(7, 500)
    assert [end_alone(doubts, one, 100.0 * number) for number in range(STRIKES)] == [*[None] * (STRIKES - 1), one]
    assert doubts.too_large == one.n_bytes


@pytest.mark.parametrize("excuse", ["silence", "ends in the quiet", "ends among others", "something as large went through"])
def test_any_other_end_of_a_connection_speaks_for_the_message(excuse: str) -> None:
    doubts, one = Doubts(), parcel(7, 500)
    for number in range(10):
        for turn in range(STRIKES - 1):
            assert end_alone(doubts, one, 1_000.0 * number + 100.0 * turn) is None
        now = 1_000.0 * number + 900.0
        if excuse == "silence":
            assert end_alone(doubts, one, now, hung_up=False) is None
        elif excuse == "ends in the quiet":
            doubts.begin(now)
            assert not doubts.allow(one, n_under_way=0, now=now + 0.9 * QUIET_S)
            assert doubts.end([], hung_up=True, n_under_way=0, now=now + 0.9 * QUIET_S) is None
        elif excuse == "ends among others":
            doubts.begin(now)
            assert doubts.end([], hung_up=True, n_under_way=1, now=now) is None
        else:
            doubts.begin(now)
            doubts.answered(parcel(0, 600), is_too_large=False, now=now)
            assert doubts.end([one], hung_up=True, n_under_way=1, now=now) is None
    assert doubts.too_large is None


@pytest.mark.parametrize("mean_life_s", [0.3, 1.0, 3.0, 10.0, 30.0])
def test_a_network_that_cuts_at_random_loses_nothing(mean_life_s: float) -> None:
    """Connections that live for about as long as an answer takes: hopeless, and yet the message is not to blame."""
    chance = random.Random(3)
    doubts, one = Doubts(), parcel(7, 500)
    now = 0.0
    for _ in range(10_000):
        now += 1_000.0
        doubts.begin(now)
        life_s, answer_s = chance.expovariate(1 / mean_life_s), chance.uniform(0.1, 2.0)
        quiet_s = next(tenth / 10 for tenth in range(1_000) if doubts.allow(one, n_under_way=0, now=now + tenth / 10))
        if life_s < quiet_s:
            assert doubts.end([], hung_up=True, n_under_way=0, now=now + life_s) is None
            continue
        doubts.sent(now + quiet_s)
        if life_s < quiet_s + answer_s:
            assert doubts.end([one], hung_up=True, n_under_way=1, now=now + life_s) is None
        else:
            doubts.answered(one, is_too_large=False, now=now + quiet_s + answer_s)


def test_what_the_broker_takes_after_all_is_not_too_large() -> None:
    doubts, one = Doubts(), parcel(7, 500)
    for number in range(STRIKES):
        end_alone(doubts, one, 100.0 * number)
    picture = Parcel(topic="t", payload=bytes(600), retain=True, lasts=True)
    assert doubts.is_too_large(picture, max_packet=None)
    assert not doubts.is_too_large(parcel(8, 600), max_packet=None)  # an event is tried
    doubts.answered(parcel(8, 600), is_too_large=False, now=1_000.0)
    assert not doubts.is_too_large(picture, max_packet=None)
    assert doubts.is_too_large(picture, max_packet=608)
