"""Messages larger than mqtt.max_payload_kb or the broker's limit: left out alone, counted, logged once."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.config import MqttConfig
from monitor.events.event import Event
from monitor.mqtt.send_queue import OutgoingMessage
from monitor.mqtt.sink import MqttSink
from tests.broker import running_broker
from tests.mqtt.anomalies import anomaly, keys, without_repeats
from tests.subscriber import Subscriber, retained
from tests.waiting import wait_until

BASE = "stethos/hall-2"
LIMIT = 2_000
QUICK = {"keepalive_s": 10, "reconnect_min_s": 0.1, "reconnect_max_s": 0.2}


def large(event: Event) -> Event:
    return replace(event, summary=LIMIT * "x")


@contextmanager
def running_sink(port: int, state_dir: Path, **settings: object) -> Iterator[MqttSink]:
    sink = MqttSink(MqttConfig.model_validate({"port": port, **QUICK, **settings}), node="hall-2", state_dir=state_dir)
    sink.start()
    try:
        yield sink
    finally:
        sink.stop(5.0)


LIMITS = [
    ("3.1.1", f"max_packet_size {LIMIT + 500}", {"max_payload_kb": LIMIT // 1_000}),
    ("5", f"max_packet_size {LIMIT}", {}),
    ("5", f"message_size_limit {LIMIT}", {"max_payload_kb": LIMIT // 1_000}),
]  # MQTT 3.1.1 has no way to state a limit, and mosquitto does not state its message_size_limit


@pytest.mark.parametrize(("protocol", "limit", "settings"), LIMITS)
def test_an_event_that_is_too_large_is_parked_alone_and_what_follows_arrives(
    protocol: str, limit: str, settings: dict[str, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    small, other, last = anomaly(1), anomaly(2), anomaly(3)
    heard, poison = anomaly(4), [large(event) for event in anomaly(5)]
    with (
        running_broker(tmp_path, f"allow_anonymous true\n{limit}\n") as broker,
        Subscriber(broker) as watcher,
        running_sink(broker.port, tmp_path, protocol=protocol, **settings) as sink,
    ):
        sink.publish_retained("fan/made-up", "{}")
        for event in [*small, *poison, *other, heard[0], large(heard[1]), heard[2], *last]:
            sink.publish(event)
        wait_until(lambda: sink.counts.delivered == 11)
        wait_until(lambda: keys(watcher.on(f"{BASE}/fan/event")[-1:]) == keys(last[-1:]))
        wait_until(lambda: sink.counts.queued == sink.counts.parked)
        assert sink.counts.connections == 1
        wait_until(lambda: (sink.counts.parked, sink.counts.dropped) == (4, 0))
    told = without_repeats(watcher.on(f"{BASE}/fan/event"))
    assert keys(told) == keys([*small, *other, heard[0], heard[2], *last])
    parked = [record.getMessage() for record in caplog.records if "parked" in record.getMessage()]
    assert len(parked) == 4
    assert f"start {poison[0].id} of fan, seq 0 rejected by" in parked[0]
    assert f"update {heard[1].id} of fan, seq 1 rejected by" in parked[-1]
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(("protocol", "limit", "settings"), LIMITS)
def test_a_retained_message_that_is_too_large_is_left_out_and_nothing_old_stays_in_its_place(
    protocol: str, limit: str, settings: dict[str, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        running_broker(tmp_path, f"allow_anonymous true\n{limit}\n") as broker,
        running_sink(broker.port, tmp_path, protocol=protocol, **settings) as sink,
    ):
        sink.publish_retained("fan/made-up", "a small picture")
        sink.publish_retained("fan/made-up-2", "{}")
        wait_until(lambda: f"{BASE}/fan/made-up" in retained(broker))
        sink.publish_retained("fan/made-up", 3 * LIMIT * "x")
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: sink.counts.delivered == 3)
        wait_until(lambda: retained(broker) == {f"{BASE}/status": "online", f"{BASE}/fan/made-up-2": "{}"})
        sink.publish_retained("fan/made-up", 4 * LIMIT * "x")
        sink.publish_retained("fan/made-up-2", "still there")
        wait_until(lambda: retained(broker).get(f"{BASE}/fan/made-up-2") == "still there")
        assert (sink.counts.connections, sink.counts.dropped, sink.counts.parked) == (1, 0, 0)
        if limit.startswith("max_packet_size") and protocol == "5":  # exactly as large as the broker says
            topic = f"{BASE}/fan/made-up-2"
            fits = next(n for n in range(LIMIT) if packet_bytes(topic, n) == LIMIT) * "x"
            sink.publish_retained("fan/made-up-2", fits)
            wait_until(lambda: retained(broker).get(topic) == fits)
            assert sink.counts.connections == 1
        sink.publish_retained("fan/made-up", "a small picture again")
        wait_until(lambda: retained(broker).get(f"{BASE}/fan/made-up") == "a small picture again")
    assert caplog.text.count(f"{BASE}/fan/made-up rejected") == 1


def packet_bytes(topic: str, n_bytes: int) -> int:
    return OutgoingMessage(topic=topic, payload=bytes(n_bytes), kind="retained").packet_bytes


def test_what_was_parked_is_delivered_after_a_restart_with_another_limit(tmp_path: Path) -> None:
    events = [anomaly(1)[0], *(large(event) for event in anomaly(1)[1:])]
    with running_broker(tmp_path) as broker, Subscriber(broker) as watcher:
        with running_sink(broker.port, tmp_path, max_payload_kb=2) as sink:
            for event in events:
                sink.publish(event)
            wait_until(lambda: (sink.counts.delivered, sink.counts.parked) == (1, 2))
            assert "bytes are more than mqtt.max_payload_kb allows (2000)" in str(sink.counts.last_parked)
            assert sink.stop(5.0) == 2
        with running_sink(broker.port, tmp_path) as sink:
            wait_until(lambda: sink.counts.delivered == 2)
        assert keys(watcher.on(f"{BASE}/fan/event")) == keys(events)


def test_the_log_names_the_setting_where_a_broker_does_not_state_its_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, protocol, limit in (("a", "3.1.1", "max_packet_size"), ("b", "5", "message_size_limit")):
        (tmp_path / name).mkdir()
        caplog.clear()
        with (
            running_broker(tmp_path / name, f"allow_anonymous true\n{limit} {LIMIT}\n") as broker,
            running_sink(broker.port, tmp_path / name, protocol=protocol) as sink,
        ):
            sink.publish(large(anomaly(1)[0]))
            wait_until(lambda: "mqtt.max_payload_kb" in caplog.text)
