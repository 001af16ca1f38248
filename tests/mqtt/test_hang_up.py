"""A broker that does not accept everything: nothing is deleted because of that, and everything else passes."""

import logging
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.config import MqttConfig
from monitor.events.event import Event
from monitor.mqtt.send_queue import OutgoingMessage
from monitor.mqtt.sink import MqttSink
from monitor.mqtt.suspects import MAX_IN_A_ROW, STRIKES, Suspects
from tests.broker import running_broker
from tests.mqtt.anomalies import anomaly, keys
from tests.mqtt.fake_broker import NOT_AUTHORIZED, FakeBroker
from tests.subscriber import Subscriber
from tests.waiting import wait_until

BASE = "stethos/hall-2"
QUICK = {"keepalive_s": 5, "reconnect_min_s": 0.1, "reconnect_max_s": 0.2}


def sink_to(port: int, state_dir: Path, protocol: str = "5") -> MqttSink:
    config = MqttConfig.model_validate({"port": port, "protocol": protocol, **QUICK})
    sink = MqttSink(config, node="hall-2", state_dir=state_dir, clock_synced=True)
    sink.start()
    return sink


def connack(*, max_packet: int) -> bytes:
    return bytes([0x20, 8, 0, 0, 5, 0x27]) + struct.pack(">I", max_packet)


def fan_and_pump(numbers: range) -> list[Event]:
    return [event for n in numbers for machine in ("fan", "pump") for event in anomaly(n, machine=machine)]


def delivered(broker: FakeBroker, machine: str) -> list[str]:
    return [payload.decode() for topic, payload in broker.received if topic == f"{BASE}/{machine}/event"]


def test_a_broker_that_hangs_up_on_the_events_of_a_machine_gets_those_of_the_others_and_nothing_is_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    events = fan_and_pump(range(3))
    with FakeBroker(lambda topic, _: None if topic.endswith("fan/event") else 0) as broker:
        sink = sink_to(broker.port, tmp_path)
        sink.publish_retained("fan/made-up", "{}")
        for event in events:
            sink.publish(event)
        wait_until(lambda: (sink.counts.delivered, sink.counts.parked) == (9, 9))
        assert (sink.counts.queued, sink.counts.dropped) == (9, 0)
        assert keys(delivered(broker, "pump")) == keys([event for event in events if event.machine == "pump"])
        n_connections = sink.counts.connections
        for event in anomaly(7, machine="pump"):
            sink.publish(event)
        wait_until(lambda: sink.counts.delivered == 12)
        assert sink.counts.connections == n_connections <= 1 + MAX_IN_A_ROW * STRIKES
        assert "the connection was closed each time it was sent" in str(sink.counts.last_parked)
        assert sink.stop(2.0) == 9
    assert len([record for record in caplog.records if "parked" in record.getMessage()]) == MAX_IN_A_ROW
    with running_broker(tmp_path) as real, Subscriber(real) as watcher:
        sink = sink_to(real.port, tmp_path, "3.1.1")
        fan = [event for event in events if event.machine == "fan"]
        wait_until(lambda: keys(watcher.on(f"{BASE}/fan/event")) == keys(fan))
        assert sink.stop(2.0) == 0


def test_a_single_event_that_the_broker_hangs_up_on_is_set_aside_alone_and_delivered_when_the_broker_has_changed(
    tmp_path: Path,
) -> None:
    poison = replace(anomaly(2)[1], summary="poison")

    def reply(*_: object) -> int | None:
        return None if b"poison" in broker.received[-1][1] else 0

    with FakeBroker(reply) as broker:
        sink = sink_to(broker.port, tmp_path)
        for event in [*anomaly(1), anomaly(2)[0], poison, anomaly(2)[2], *anomaly(3)]:
            sink.publish(event)
        wait_until(lambda: (sink.counts.delivered, sink.counts.parked) == (8, 1))
        wait_until(lambda: sink.counts.queued == 1)
        assert sink.counts.dropped == 0
        broker.reply = lambda *_: 0
        broker.hang_up()
        wait_until(lambda: (sink.counts.delivered, sink.counts.parked, sink.counts.queued) == (9, 0, 0))
        assert sink.stop(2.0) == 0


def test_what_was_set_aside_is_offered_after_a_while_over_the_same_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.mqtt.sink.RETRY_S", 1.0)
    with FakeBroker(lambda topic, _: NOT_AUTHORIZED if topic.endswith("/event") else 0) as broker:
        sink = sink_to(broker.port, tmp_path)
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: sink.counts.parked == 3)
        broker.reply = lambda *_: 0
        wait_until(lambda: (sink.counts.delivered, sink.counts.parked) == (3, 0), 5.0)
        assert sink.counts.connections == 1
        assert keys(delivered(broker, "fan"))[-3:] == keys(anomaly(1))
        sink.stop(2.0)


@pytest.mark.parametrize("max_packet", [1, 20, 200])
def test_a_tiny_maximum_packet_size_deletes_nothing_and_a_larger_one_delivers_everything(max_packet: int, tmp_path: Path) -> None:
    events = fan_and_pump(range(10))
    with FakeBroker(lambda *_: 0, connack=connack(max_packet=max_packet)) as broker:
        sink = sink_to(broker.port, tmp_path)
        sink.publish_retained("fan/made-up", 1_000 * "x")
        for event in events:
            sink.publish(event)
        wait_until(lambda: sink.counts.parked == 60)
        assert (sink.counts.queued, sink.counts.dropped, sink.counts.connections) == (60, 0, 1)
        assert all(len(topic) + len(payload) <= max_packet for topic, payload in broker.received)
        broker.connack = connack(max_packet=100_000)
        broker.hang_up()
        wait_until(lambda: (sink.counts.parked, sink.counts.queued) == (0, 0))
        assert sink.counts.dropped == 0
        sink.stop(2.0)
    assert keys(delivered(broker, "fan")) == keys([event for event in events if event.machine == "fan"])


def test_a_retained_topic_that_the_broker_hangs_up_on_does_not_keep_the_rest_back(tmp_path: Path) -> None:
    with FakeBroker(lambda topic, _: None if topic.endswith(("made-up", "hall-2/status")) else 0) as broker:
        sink = sink_to(broker.port, tmp_path)
        sink.publish_retained("fan/made-up", "1")
        sink.publish_retained("fan/made-up-2", "2")
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: sink.counts.delivered == 3)
        assert (f"{BASE}/fan/made-up-2", b"2") in broker.received
        n_connections = sink.counts.connections
        sink.publish_retained("fan/made-up", "3")
        sink.publish_retained("fan/made-up-2", "4")
        wait_until(lambda: (f"{BASE}/fan/made-up-2", b"4") in broker.received)
        assert sink.counts.connections == n_connections
        broker.reply = lambda *_: 0
        sink._actions.put(sink._retry)
        wait_until(lambda: (f"{BASE}/fan/made-up", b"3") in broker.received)
        sink.stop(2.0)


def message(row: int, topic: str = "a") -> OutgoingMessage:
    return OutgoingMessage(topic=topic, payload=b"", kind="event", row=row)


def test_a_connection_that_ends_with_several_messages_in_flight_accuses_none_of_them() -> None:
    suspects = Suspects()
    for _ in range(10):
        assert not suspects.connection_closed([message(1), message(2)])
    assert suspects
    suspects.acknowledged(message(2))
    assert suspects.connection_closed([message(1)])
    assert not suspects
    suspects.retry()
    assert suspects.connection_closed([message(1)])


def test_an_accepted_event_clears_its_topic() -> None:
    suspects = Suspects()
    for row in range(MAX_IN_A_ROW):
        for _ in range(STRIKES):
            suspects.connection_closed([message(row)])
        assert suspects.held == ({"a"} if row == MAX_IN_A_ROW - 1 else set())
    suspects.retry()
    assert suspects.held == set()
    suspects.acknowledged(message(0))
    assert suspects.connection_closed([message(1)])
    assert suspects.held == set()
