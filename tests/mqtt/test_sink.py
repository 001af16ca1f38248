"""The sink against a real broker: what is on the wire, in which order, whatever the broker does."""

import json
import logging
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitor.config import MqttConfig
from monitor.mqtt.outbox import Limits, Outbox
from monitor.mqtt.sink import MqttSink
from monitor.mqtt.store import Store
from tests.broker import Broker, deaf_broker, running_broker, say
from tests.mqtt.anomalies import anomaly, keys, without_repeats
from tests.proxy import Proxy
from tests.subscriber import Subscriber, retained
from tests.waiting import wait_until

QUICK = {"keepalive_s": 2, "reconnect_min_s": 0.1, "reconnect_max_s": 0.5}
BASE = "stethos/hall-2"
OnCommand = Callable[[str, str, bytes, bool], None]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as started:
        yield started


@contextmanager
def running_sink(
    port: int, state_dir: Path, *, on_command: OnCommand | None = None, clock_synced: bool = True, **settings: object
) -> Iterator[MqttSink]:
    config = MqttConfig.model_validate({"port": port, **QUICK, **settings})
    sink = MqttSink(config, node="hall-2", state_dir=state_dir, on_command=on_command, clock_synced=clock_synced)
    sink.start()
    try:
        yield sink
    finally:
        sink.stop(5.0)


def states(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("mqtt:")]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_events_arrive_in_order_with_qos_1_and_are_forgotten(protocol: str, broker: Broker, tmp_path: Path) -> None:
    events = [event for number in range(20) for event in anomaly(number, machine=random.choice(["fan", "pump"]))]
    with Subscriber(broker) as watcher, running_sink(broker.port, tmp_path, protocol=protocol) as sink:
        for event in events:
            sink.publish(event)
        wait_until(lambda: sink.counts.delivered == len(events))
        sink.stop(5.0)
        wait_until(lambda: watcher.on(f"{BASE}/status")[-1:] == ["offline"])
    heard = [message for message in watcher.messages if message.topic.endswith("/event")]
    assert keys([message.payload for message in heard]) == keys(events)
    assert [json.loads(message.payload)["machine"] for message in heard] == [m.topic.split("/")[2] for m in heard]
    assert {(message.qos, message.retained) for message in heard} == {(1, False)}
    assert watcher.on(f"{BASE}/status") == ["online", "offline"]
    counts = sink.counts
    assert (counts.queued, counts.dropped, counts.connections, counts.last_error) == (0, 0, 1, None)
    assert counts.commit_ms_p99 is not None
    assert Outbox(tmp_path / "outbox.sqlite", Limits(messages=10, n_bytes=10_000)).totals.n == 0


def test_a_stop_waits_for_an_outbox_that_is_slow_to_open(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_sink(9, tmp_path) as sink:  # where nobody listens
        for event in anomaly(0):
            sink.publish(event)

    def slow_store(*arguments: Any, **more: Any) -> Store:
        time.sleep(1.0)
        return Store(*arguments, **more)

    monkeypatch.setattr("monitor.mqtt.event_queue.Store", slow_store)
    with Subscriber(broker) as watcher, running_sink(broker.port, tmp_path) as sink:
        assert sink.counts.queued == 0  # as far as is known
        assert sink.stop(10.0) == 0
        wait_until(lambda: len(watcher.on(f"{BASE}/fan/event")) == len(anomaly(0)))


def test_a_broker_that_comes_later_gets_everything_and_the_log_says_it_once(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    way = Proxy(broker.port)
    way.become("refuses")
    with Subscriber(broker) as watcher, running_sink(way.port, tmp_path) as sink:
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: sink.counts.last_error is not None)
        time.sleep(1.0)
        assert sink.counts.queued == 3
        way.become("fair")
        wait_until(lambda: len(watcher.on(f"{BASE}/fan/event")) == 3)
    assert keys(watcher.on(f"{BASE}/fan/event")) == keys(anomaly(1))
    assert states(caplog) == [
        f"mqtt: 127.0.0.1:{way.port} cannot be reached: [Errno 111] Connection refused; retrying",
        f"mqtt: connected to 127.0.0.1:{way.port}",
    ]


def test_the_present_is_said_after_every_connection_and_before_the_outbox(broker: Broker, tmp_path: Path) -> None:
    way = Proxy(broker.port)
    with running_sink(way.port, tmp_path) as sink:
        sink.publish_retained("fan/made-up", "old")
        sink.publish_retained("fan/made-up", "new")
        sink.publish_retained("/homeassistant/made-up/config", "{}")
        wait_until(lambda: retained(broker).get(f"{BASE}/fan/made-up") == "new")
        way.become("refuses")
        wait_until(lambda: not sink.counts.connected)
        broker.kill()  # it forgets what it retained
        broker.start()
        for event in anomaly(1):
            sink.publish(event)
        sink.publish_retained("fan/anomaly", "ON")
        with Subscriber(broker) as watcher:
            way.become("fair")
            wait_until(lambda: sink.counts.queued == 0)
        assert [(message.topic, message.payload[:6]) for message in watcher.messages] == [
            (f"{BASE}/status", "online"),
            (f"{BASE}/fan/made-up", "new"),
            ("homeassistant/made-up/config", "{}"),
            (f"{BASE}/fan/anomaly", "ON"),
            *[(f"{BASE}/fan/event", '{"sche')] * 3,
        ]
        assert retained(broker) == {
            f"{BASE}/status": "online",
            f"{BASE}/fan/made-up": "new",
            f"{BASE}/fan/anomaly": "ON",
            "homeassistant/made-up/config": "{}",
        }


def test_what_is_withdrawn_is_retained_no_more_even_if_the_broker_was_away(broker: Broker, tmp_path: Path) -> None:
    way = Proxy(broker.port)
    with running_sink(way.port, tmp_path) as sink:
        sink.publish_retained("fan/made-up", "normal")
        wait_until(lambda: f"{BASE}/fan/made-up" in retained(broker))
        way.become("refuses")
        wait_until(lambda: not sink.counts.connected)
        sink.clear_retained("fan/made-up")
        way.become("fair")
        wait_until(lambda: retained(broker) == {f"{BASE}/status": "online"})


def test_a_topic_that_changes_faster_than_the_broker_answers_is_said_once_more_not_a_thousand_times(
    broker: Broker, tmp_path: Path
) -> None:
    with Subscriber(broker) as watcher, running_sink(broker.port, tmp_path, keepalive_s=30) as sink:
        wait_until(lambda: sink.counts.connected)
        with broker.frozen():
            for number in range(1_000):
                sink.publish_retained("fan/made-up", str(number))
                time.sleep(0.0005)
        wait_until(lambda: watcher.on(f"{BASE}/fan/made-up")[-1:] == ["999"])
        assert len(watcher.on(f"{BASE}/fan/made-up")) < 10


def test_what_passes_is_dropped_while_there_is_no_connection(broker: Broker, tmp_path: Path) -> None:
    way = Proxy(broker.port)
    way.become("refuses")
    with Subscriber(broker) as watcher, running_sink(way.port, tmp_path) as sink:
        sink.publish_transient("made-up", "lost")
        way.become("fair")
        wait_until(lambda: sink.counts.connected)
        sink.publish_transient("made-up", "heard")
        sink.publish_transient("fan/made-up", "{}", qos=1)
        wait_until(lambda: watcher.on(f"{BASE}/fan/made-up") == ["{}"])
        assert watcher.on(f"{BASE}/made-up") == ["heard"]
        wait_until(lambda: BASE + "/status" in retained(broker))
        assert set(retained(broker)) == {f"{BASE}/status"}


def test_commands_reach_the_caller(broker: Broker, tmp_path: Path) -> None:
    commands: list[tuple[str, str, bytes, bool]] = []
    say(broker, f"{BASE}/pump/set/ack", "stale", "--retain")
    with running_sink(broker.port, tmp_path, on_command=lambda *command: commands.append(command)) as sink:
        wait_until(lambda: sink.counts.connected and len(commands) == 1)
        say(broker, f"{BASE}/fan/set/snooze", '{"minutes": 5}')
        say(broker, f"{BASE}/FAN/set/snooze", "no machine")
        say(broker, f"{BASE}/fan/set/clip", "")
        wait_until(lambda: len(commands) == 3)
    assert commands == [
        ("pump", "ack", b"stale", True),
        ("fan", "snooze", b'{"minutes": 5}', False),
        ("fan", "clip", b"", False),
    ]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_retained_command_is_told_from_others_at_once_in_mqtt_5_and_with_the_next_connection_in_3(
    protocol: str, broker: Broker, tmp_path: Path
) -> None:
    flags: list[bool] = []
    way = Proxy(broker.port)
    with running_sink(way.port, tmp_path, protocol=protocol, on_command=lambda *command: flags.append(command[3])) as sink:
        wait_until(lambda: sink.counts.connected)
        say(broker, f"{BASE}/fan/set/ack", "{}")
        say(broker, f"{BASE}/fan/set/ack", "{}", "--retain")
        wait_until(lambda: len(flags) == 2)
        way.become("refuses")
        wait_until(lambda: not sink.counts.connected)
        way.become("fair")
        wait_until(lambda: len(flags) == 3)
    assert flags == [False, protocol == "5", True]


@pytest.mark.parametrize("trouble", ["frozen", "swallowed"])
def test_a_connection_that_is_only_half_there_is_noticed_and_nothing_is_lost(
    trouble: str, broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    way = Proxy(broker.port)
    with Subscriber(broker) as watcher, running_sink(way.port, tmp_path) as sink:
        wait_until(lambda: sink.counts.connected)
        if trouble == "frozen":
            with broker.frozen():
                for event in anomaly(1):
                    sink.publish(event)
                wait_until(lambda: not sink.counts.connected)
        else:
            way.become("swallows")
            for event in anomaly(1):
                sink.publish(event)
            wait_until(lambda: not sink.counts.connected)
            way.become("fair")
        wait_until(lambda: sink.counts.queued == 0 and sink.counts.connected)
        wait_until(lambda: len(set(watcher.on(f"{BASE}/fan/event"))) == 3)
        wait_until(lambda: retained(broker)[f"{BASE}/status"] == "online")
    assert keys(without_repeats(watcher.on(f"{BASE}/fan/event"))) == keys(anomaly(1))
    assert any("messages unacknowledged for" in line for line in states(caplog))


def test_a_silent_connection_without_traffic_is_noticed_too(broker: Broker, tmp_path: Path) -> None:
    way = Proxy(broker.port)
    with running_sink(way.port, tmp_path) as sink:
        wait_until(lambda: sink.counts.connected and f"{BASE}/status" in retained(broker))
        way.become("swallows")
        wait_until(lambda: sink.counts.last_error is not None)
        assert sink.counts.last_error == "stopped answering (for 2 s or longer)"
        way.become("fair")
        wait_until(lambda: sink.counts.connected)


def test_a_broker_that_freezes_after_a_drained_backlog_is_detected_within_the_keepalive(broker: Broker, tmp_path: Path) -> None:
    with running_sink(broker.port, tmp_path, keepalive_s=3) as sink:
        for number in range(300):
            for event in anomaly(number):
                sink.publish(event)
        wait_until(lambda: sink.counts.delivered == 900, 60.0)
        with broker.frozen():
            sink.publish_retained("fan/made-up", "{}")
            wait_until(lambda: not sink.counts.connected, 8.0)
            assert "for 3 s" in str(sink.counts.last_error)  # unacknowledged, or without a reply to a ping


def test_a_way_that_is_slow_is_not_taken_for_one_that_is_broken(broker: Broker, tmp_path: Path) -> None:
    way = Proxy(broker.port)
    picture = 300_000 * "x"  # takes more than twice as long as the keepalive
    with Subscriber(broker) as watcher, running_sink(way.port, tmp_path, keepalive_s=3) as sink:
        wait_until(lambda: sink.counts.connected)
        way.become("slow")
        sink.publish_retained("fan/made-up", picture)
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: sink.counts.delivered == 3)
        assert sink.counts.connections == 1
        wait_until(lambda: watcher.on(f"{BASE}/fan/made-up") == [picture])


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_broker_that_does_not_let_us_hear_commands_is_a_line_in_the_log(
    protocol: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        deaf_broker(tmp_path) as deaf,
        running_sink(deaf.port, tmp_path, protocol=protocol, on_command=lambda *_: None) as sink,
    ):
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: sink.counts.delivered == 3 and "rejected" in caplog.text)
    assert [line for line in states(caplog) if "rejected" in line] == [
        f"mqtt: subscription to {BASE}/+/set/+ rejected by 127.0.0.1:{deaf.port}: "
        + ("Not authorized" if protocol == "5" else "Unspecified error")
    ]


def test_no_more_is_in_flight_than_a_broker_of_mqtt_5_allows(tmp_path: Path) -> None:
    """One that answers the login, allows 2 messages at once, and acknowledges none; it counts what it gets."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        running_sink(listener.getsockname()[1], tmp_path, protocol="5") as sink,
    ):
        for number in range(10):
            sink.publish_retained(f"fan/made-up-{number}", "x")
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(1.0)
            connection.recv(4096)
            connection.sendall(bytes([0x20, 6, 0, 0, 3, 0x21, 0, 2]))  # CONNACK, success, receive maximum 2
            heard = b""
            with pytest.raises(TimeoutError):
                while data := connection.recv(4096):
                    heard += data
    assert heard.count(b"stethos/hall-2/status") == 1
    assert heard.count(b"made-up") == 1


def test_two_nodes_of_one_name_throw_each_other_out_and_the_log_says_what_to_look_for(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_sink(broker.port, tmp_path / "a") as one, running_sink(broker.port, tmp_path / "b") as other:
        for number in range(30):
            for run, sink in {"one": one, "other": other}.items():
                for event in anomaly(number, run=run):
                    sink.publish(event)
            time.sleep(0.1)
        wait_until(lambda: one.counts.delivered == other.counts.delivered == 90, 60.0)
        assert one.counts.dropped == other.counts.dropped == 0
    assert "closed the connection (is it stopping, is another client called stethos-hall-2, or was" in caplog.text


def test_no_call_waits_for_a_broker_that_does_not_answer(broker: Broker, tmp_path: Path) -> None:
    with running_sink(broker.port, tmp_path) as sink:
        wait_until(lambda: sink.counts.connected)
        slowest = 0.0
        with broker.frozen():
            for number in range(300):
                began = time.monotonic()
                sink.publish_retained("fan/made-up", f"{number} " + 50_000 * "x")
                sink.publish_transient("made-up", 5_000 * "x")
                sink.publish(anomaly(number)[number % 3])
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.005)
        assert slowest < 1.0  # whoever waited would wait till the end
        wait_until(lambda: sink.counts.queued == 0)


def test_two_messages_with_one_id_and_seq_never_differ_when_the_clock_is_set(broker: Broker, tmp_path: Path) -> None:
    way = Proxy(broker.port)
    with Subscriber(broker) as watcher, running_sink(way.port, tmp_path, clock_synced=False) as sink:
        heard, unheard = anomaly(1, clock_synced=False), anomaly(2, clock_synced=False)
        sink.publish(heard[0])
        wait_until(lambda: sink.counts.delivered == 1)
        way.become("refuses")
        wait_until(lambda: not sink.counts.connected)
        for event in unheard:
            sink.publish(event)
        sink.clock_corrected(3_600.0)
        sink.publish(anomaly(3)[0])
        way.become("fair")
        wait_until(lambda: sink.counts.queued == 0)
        wait_until(lambda: len(set(watcher.on(f"{BASE}/fan/event"))) == 5)
    messages = [json.loads(payload) for payload in without_repeats(watcher.on(f"{BASE}/fan/event"))]
    assert [message["clock_synced"] for message in messages] == [False, True, True, True, True]
    shifted = [replace(event, ts=event.ts.replace(hour=event.ts.hour + 1)) for event in unheard]
    assert [message["ts"] for message in messages[1:4]] == [event.to_dict()["ts"] for event in shifted]


def test_nothing_is_written_while_nothing_happens(broker: Broker, tmp_path: Path) -> None:
    def touched() -> dict[str, tuple[int, int]]:
        files = [path for path in tmp_path.iterdir() if path.name.startswith("outbox")]
        return {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}

    way = Proxy(broker.port)
    with running_sink(way.port, tmp_path) as sink:
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: sink.counts.delivered == 3)
        time.sleep(2.5)  # until they are forgotten
        before = touched()
        for number in range(30):
            sink.publish_retained("fan/made-up", str(number))
            sink.publish_transient("made-up", str(number))
            if number == 15:
                way.become("refuses")
                wait_until(lambda: not sink.counts.connected)
                way.become("fair")
            time.sleep(0.1)
        assert before
        assert touched() == before


def test_a_crash_leaves_the_last_will(broker: Broker, tmp_path: Path) -> None:
    way = Proxy(broker.port)
    with running_sink(way.port, tmp_path) as sink:
        wait_until(lambda: sink.counts.connected)
        with Subscriber(broker) as watcher:
            way.become("refuses")
            wait_until(lambda: watcher.on(f"{BASE}/status")[-1:] == ["offline"])


def test_stopping_is_bounded_and_says_what_stays(broker: Broker, tmp_path: Path) -> None:
    with running_sink(broker.port, tmp_path) as sink:
        wait_until(lambda: sink.counts.connected)
        with broker.frozen():
            for event in anomaly(1):
                sink.publish(event)
            began = time.monotonic()
            assert sink.stop(2.0) == 3
            assert time.monotonic() - began < 4.0
