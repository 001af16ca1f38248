"""Events that the broker refuses, and rows that cannot be read: each is parked or dropped alone, everything else goes on."""

import sqlite3
from pathlib import Path

from monitor.config import MqttConfig
from monitor.mqtt.sink import MqttSink
from tests.broker import running_broker
from tests.mqtt.anomalies import anomaly
from tests.mqtt.fake_broker import NOT_AUTHORIZED, FakeBroker
from tests.subscriber import Subscriber
from tests.waiting import wait_until

BASE = "stethos/hall-2"
QUICK = {"keepalive_s": 5, "reconnect_min_s": 0.1, "reconnect_max_s": 0.2}


def sink_to(port: int, state_dir: Path, protocol: str = "5") -> MqttSink:
    config = MqttConfig.model_validate({"port": port, "protocol": protocol, **QUICK})
    sink = MqttSink(config, node="hall-2", state_dir=state_dir)
    sink.start()
    return sink


def test_a_refusal_among_three_in_flight_and_a_closed_connection_are_survived(tmp_path: Path) -> None:
    def reply(topic: str, number: int) -> int | None:
        if not topic.endswith("/event"):
            return 0
        return {0: NOT_AUTHORIZED, 1: 0, 2: None}.get(number, 0)

    with FakeBroker(reply) as broker:
        sink = sink_to(broker.port, tmp_path)
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: broker.n_connections >= 2 and sink.counts.connected, 10)
        for event in anomaly(2):
            sink.publish(event)
        wait_until(lambda: sink.counts.delivered >= 5, 10)
        sink.stop(2.0)


def test_a_refused_event_stops_nothing(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite stethos/hall-2/status\ntopic readwrite stethos/hall-2/pump/#\ntopic readwrite subscriber/#\n")
    with running_broker(tmp_path, f"allow_anonymous true\nacl_file {acl}\n") as broker, Subscriber(broker) as watcher:
        sink = sink_to(broker.port, tmp_path)
        for event in anomaly(1):
            sink.publish(event)
        for event in anomaly(2, machine="pump"):
            sink.publish(event)
        wait_until(lambda: len(watcher.on(f"{BASE}/pump/event")) == 3, 10)
        assert watcher.on(f"{BASE}/status") == ["online"]
        assert sink.counts.connections == 1
        sink.stop(2.0)


def test_a_malformed_row_is_dropped(tmp_path: Path) -> None:
    sink = sink_to(9, tmp_path)
    for event in anomaly(1)[:2]:
        sink.publish(event)
    assert sink.stop(2.0) == 2
    with sqlite3.connect(tmp_path / "outbox.sqlite") as db:
        db.execute("UPDATE open SET payload = '{\"id\": 3'")
    with running_broker(tmp_path) as broker, Subscriber(broker) as watcher:
        sink = sink_to(broker.port, tmp_path)
        wait_until(lambda: len(watcher.on(f"{BASE}/fan/event")) == 2, 10)
        sink.stop(2.0)
