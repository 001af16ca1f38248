"""Events that the broker refuses, and rows that cannot be read: each is parked or dropped alone, everything else goes on."""

import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.config import MqttConfig
from monitor.mqtt.client import BrokerClient
from monitor.mqtt.event_queue import EventQueue
from monitor.mqtt.sink import MqttSink
from monitor.threads import Watchdog
from tests.broker import running_broker, say
from tests.mqtt.anomalies import anomaly, keys
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
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as db, db:
        db.execute("UPDATE open SET payload = '{\"id\": 3'")
    with running_broker(tmp_path) as broker, Subscriber(broker) as watcher:
        sink = sink_to(broker.port, tmp_path)
        wait_until(lambda: len(watcher.on(f"{BASE}/fan/event")) == 2, 10)
        sink.stop(2.0)


def test_an_unexpected_exception_ends_neither_the_worker_nor_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_broker(tmp_path) as broker, Subscriber(broker) as watcher:
        sink = sink_to(broker.port, tmp_path)
        wait_until(lambda: sink.counts.connected)
        monkeypatch.setattr(EventQueue, "advance", fails)
        sink.publish_retained("fan/made-up", "1")
        wait_until(lambda: sink.counts.worker_errors >= 2)
        assert sink.worker_is_alive
        monkeypatch.undo()
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: len(watcher.on(f"{BASE}/fan/event")) == 3)
        turns = sink.advanced()
        wait_until(lambda: sink.advanced() > turns, 2.0)
        assert sink.counts.connections == 1
        assert sink.stop(2.0) == 0
        assert not sink.worker_is_alive


def test_an_unexpected_exception_in_the_connection_is_followed_by_another_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_broker(tmp_path) as broker:
        sink = sink_to(broker.port, tmp_path)
        wait_until(lambda: sink.counts.connected)
        monkeypatch.setattr(BrokerClient, "publish", lambda *_, **__: 1)
        monkeypatch.setattr("monitor.mqtt.client.select.select", fails)
        sink.publish_retained("fan/made-up", "1")
        wait_until(lambda: sink.counts.last_error == "failed on an unexpected error: injected")
        monkeypatch.undo()
        wait_until(lambda: sink.counts.connections == 2)
        sink.stop(2.0)


@pytest.mark.parametrize("trouble", ["threads", "sockets"])
def test_a_node_that_runs_out_of_threads_or_sockets_connects_later(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_broker(tmp_path) as broker:
        if trouble == "threads":
            monkeypatch.setattr(BrokerClient, "start", fails)
        else:
            monkeypatch.setattr("monitor.mqtt.client.socket.socketpair", fails)
        sink = sink_to(broker.port, tmp_path)
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: sink.counts.last_error == "cannot be reached: injected")
        wait_until(lambda: sink.counts.queued == 3 and sink.counts.commit_ms_p99 is not None)
        assert sink.counts.worker_errors == 0
        monkeypatch.undo()
        wait_until(lambda: sink.counts.delivered == 3)
        assert sink.stop(2.0) == 0


@pytest.mark.parametrize("method", ["publish", "subscribe"])
def test_an_unexpected_exception_while_sending_loses_nothing(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next connection sends everything again: the events, and the subscriptions that follow `status`."""
    original, failures = getattr(BrokerClient, method), iter([fails])

    def fails_once(client: BrokerClient, topic: str, *arguments: object, **settings: object) -> object:
        if topic.endswith(("/event", "/set/+")):
            next(failures, lambda: None)()
        return original(client, topic, *arguments, **settings)

    monkeypatch.setattr(BrokerClient, method, fails_once)
    commands: list[str] = []
    with running_broker(tmp_path) as broker, Subscriber(broker) as watcher:
        config = MqttConfig.model_validate({"port": broker.port, **QUICK})
        sink = MqttSink(config, node="hall-2", state_dir=tmp_path, on_command=lambda *command: commands.append(command[1]))
        sink.start()
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: sink.counts.delivered == 3)
        say(broker, f"{BASE}/fan/set/ack", "{}")
        wait_until(lambda: commands == ["ack"])
        assert sink.stop(2.0) == 0
        assert keys(watcher.on(f"{BASE}/fan/event")) == keys(anomaly(1))
    assert sink.counts.worker_errors == 1


def test_an_error_while_the_socket_is_closed_is_followed_by_another_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_broker(tmp_path) as broker:
        sink = sink_to(broker.port, tmp_path)
        wait_until(lambda: sink.counts.connected)
        monkeypatch.setattr("paho.mqtt.client.Client.socket", fails)
        wait_until(lambda: sink.counts.last_error == "failed on an unexpected error: injected")
        monkeypatch.undo()
        wait_until(lambda: sink.counts.connections == 2)
        sink.stop(2.0)


def test_a_watchdog_detects_a_connection_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = sink_to(9, tmp_path / "unreachable")
    seen = sink.connection_advanced()
    wait_until(lambda: sink.connection_advanced() != seen, 2.0)
    sink.stop(0.1)
    with running_broker(tmp_path) as broker:
        released = threading.Event()
        sink = sink_to(broker.port, tmp_path)
        wait_until(lambda: sink.counts.connected)
        for _ in range(3):
            seen = sink.connection_advanced()
            wait_until(lambda seen=seen: sink.connection_advanced() != seen, 2.0)  # type: ignore[misc]
        monkeypatch.setattr("paho.mqtt.client.Client.loop_misc", lambda *_: released.wait(30.0))
        time.sleep(1.5)
        seen = sink.connection_advanced()
        watchdog = Watchdog()
        watchdog.watch(*sink.probes(patience_s=1.0))
        assert watchdog.stalled(0.0) == []
        time.sleep(1.5)
        assert sink.connection_advanced() == seen
        assert watchdog.stalled(1.5) == ["mqtt connection for 2 s"]
        released.set()
        wait_until(lambda: sink.connection_advanced() != seen, 2.0)
        sink.stop(2.0)


def test_a_change_that_cannot_be_applied_is_lost_alone(tmp_path: Path) -> None:
    sink = sink_to(9, tmp_path)
    poison = replace(anomaly(2)[0], score=float("nan"))
    for event in [anomaly(1)[0], poison, anomaly(3)[0]]:
        sink.publish(event)
    wait_until(lambda: (sink.counts.queued, sink.counts.dropped) == (2, 1))
    assert sink.stop(2.0) == 2


def fails(*_: object, **__: object) -> None:
    raise RuntimeError("injected")
