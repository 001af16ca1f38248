"""`--publish` against a real broker, read back by an independent client."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.config import MqttConfig
from monitor.mqtt.publisher import MqttPublisher
from tests.broker import Broker, free_port, running_broker
from tests.proxy import Proxy
from tests.replay.command import ROOT, Ran, monitor
from tests.subscriber import Subscriber, retained
from tests.waiting import wait_until


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as started:
        yield started


def publish(broker: Broker, *arguments: str | Path) -> Ran:
    return monitor(*arguments, "--publish", environment={"STETHOS_MQTT__PORT": str(broker.port)})


def test_a_subscriber_gets_every_event_as_it_stands_on_stdout(broker: Broker, demo_fault: Path, demo_bundle: Path) -> None:
    with Subscriber(broker) as subscriber:
        ran = publish(broker, "--replay", demo_fault, "--model", demo_bundle)
    assert ran.status == 0
    events = [json.loads(payload) for payload in subscriber.on("stethos/replay/demo-fan/event")]
    assert events == ran.events
    assert [event["event_type"] for event in events] == ["start", "update", "end"]
    assert {message.qos for message in subscriber.messages} == {1}


def test_state_anomaly_and_status_follow_the_machine(broker: Broker, demo_fault: Path, demo_bundle: Path) -> None:
    with Subscriber(broker) as subscriber:
        publish(broker, "--replay", demo_fault, "--model", demo_bundle)
    assert subscriber.on("stethos/replay/status") == ["online", "offline"]
    assert subscriber.on("stethos/replay/demo-fan/anomaly") == ["None", "OFF", "ON", "OFF", "None"]
    states = [json.loads(payload) for payload in subscriber.on("stethos/replay/demo-fan/state")]
    seen = [state["state"] for state in states]
    assert [state for i, state in enumerate(seen) if i == 0 or state != seen[i - 1]] == [
        *("starting", "normal", "anomaly", "normal", "unknown")
    ]
    assert 14 <= len(states) <= 22  # on change, and every 10 s of 140 s
    assert all(set(state) == set(states[0]) for state in states)
    assert retained(broker) == {
        "stethos/replay/status": "offline",
        "stethos/replay/demo-fan/anomaly": "None",
        "stethos/replay/demo-fan/state": subscriber.on("stethos/replay/demo-fan/state")[-1],
    }


def test_a_warning_becomes_an_alarm_and_only_then_is_the_anomaly_on(
    broker: Broker, demo_fault: Path, bundle_of_two_levels: Path
) -> None:
    with Subscriber(broker) as subscriber:
        publish(broker, "--replay", demo_fault, "--model", bundle_of_two_levels)
    events = [json.loads(payload) for payload in subscriber.on("stethos/replay/demo-fan/event")]
    kinds = [(event["event_type"], event["seq"], event["severity"]) for event in events]
    assert kinds == [("start", 0, "warning"), ("update", 1, "alarm"), ("end", 2, "alarm")]
    states = [json.loads(payload) for payload in subscriber.on("stethos/replay/demo-fan/state")]
    seen = [(state["state"], state["severity"]) for state in states]
    assert list(dict.fromkeys(seen)) == [
        ("starting", None),
        ("normal", None),
        ("anomaly", "warning"),
        ("anomaly", "alarm"),
        ("unknown", None),
    ]
    assert [state["recent_anomalies"] for state in states if state["severity"] == "warning"].count(0) >= 1
    assert subscriber.on("stethos/replay/demo-fan/anomaly") == ["None", "OFF", "ON", "OFF", "None"]
    order = [message.payload for message in subscriber.messages]
    on, escalated = order.index("ON"), next(i for i, text in enumerate(order) if '"update"' in text)
    assert abs(on - escalated) == 1


def test_whoever_wants_to_is_called_by_warnings(
    broker: Broker, demo_fault: Path, bundle_of_two_levels: Path, tmp_path: Path
) -> None:
    config = tmp_path / "monitor.yaml"
    machines = {"fan": {"bundle": str(bundle_of_two_levels)}}
    settings = {"mqtt": {"port": broker.port}, "alarm": {"from": "warning"}, "machines": machines}
    config.write_text(json.dumps(settings))
    with Subscriber(broker) as subscriber:
        assert monitor("--replay", demo_fault, "--config", config, "--publish").status == 0
    assert subscriber.on("stethos/replay/fan/anomaly") == ["None", "OFF", "ON", "OFF", "None"]
    order = [message.payload for message in subscriber.messages]
    start = next(i for i, text in enumerate(order) if '"start"' in text)
    assert abs(order.index("ON") - start) == 1


def test_the_order_on_the_wire_is_the_order_of_the_sound(broker: Broker, demo_fault: Path, demo_bundle: Path) -> None:
    with Subscriber(broker) as subscriber:
        publish(broker, "--replay", demo_fault, "--model", demo_bundle)
    topics = [message.topic.rsplit("/", 1)[-1] for message in subscriber.messages]
    assert topics[0] == "status"
    assert topics[-1] == "status"
    on = next(i for i, m in enumerate(subscriber.messages) if m.payload == "ON")
    start = next(i for i, m in enumerate(subscriber.messages) if '"start"' in m.payload)
    assert abs(on - start) == 1


def test_prefix_node_and_machine_make_the_topic(broker: Broker, demo_fault: Path, demo_bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "monitor.yaml"
    config.write_text(
        json.dumps(
            {
                "node": "hall-2",
                "mqtt": {"port": broker.port, "prefix": "plant/sound"},
                "machines": {"fan-1": {"bundle": str(demo_bundle)}},
            }
        )
    )
    with Subscriber(broker) as subscriber:
        ran = monitor("--replay", demo_fault, "--config", config, "--publish")
    assert ran.status == 0
    assert {message.topic for message in subscriber.messages} == {
        "plant/sound/hall-2/status",
        *(f"plant/sound/hall-2/fan-1/{leaf}" for leaf in ("state", "anomaly", "event")),
    }


def start_slow_replay(broker: Broker, demo_fault: Path, demo_bundle: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "monitor.cli.main",
        "--publish",
        "--speed",
        "1",
        "--replay",
        str(demo_fault),
        "--model",
        str(demo_bundle),
    ]
    environment = {**os.environ, "STETHOS_MQTT__PORT": str(broker.port)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


def test_a_kill_is_told_by_the_last_will(broker: Broker, demo_fault: Path, demo_bundle: Path) -> None:
    with Subscriber(broker) as watcher:
        process = start_slow_replay(broker, demo_fault, demo_bundle)
        wait_until(lambda: bool(watcher.on("stethos/replay/demo-fan/state")))
        process.kill()
        process.communicate()
        wait_until(lambda: watcher.on("stethos/replay/status") == ["online", "offline"])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_replay_says_goodbye(how: signal.Signals, broker: Broker, demo_fault: Path, demo_bundle: Path) -> None:
    with Subscriber(broker) as watcher:
        process = start_slow_replay(broker, demo_fault, demo_bundle)
        wait_until(lambda: bool(watcher.on("stethos/replay/demo-fan/state")))
        process.send_signal(how)
        _, stderr = process.communicate(timeout=10)
        assert process.returncode == 130
        assert "Traceback" not in stderr
        wait_until(lambda: watcher.on("stethos/replay/status") == ["online", "offline"])
        assert watcher.on("stethos/replay/demo-fan/anomaly")[-1] == "None"


def is_quiet(watcher: Subscriber) -> bool:
    n_heard = len(watcher.messages)
    time.sleep(0.5)
    return len(watcher.messages) == n_heard


def test_nothing_is_lost_when_the_broker_restarts_in_between(broker: Broker) -> None:
    """A broker killed and started again while much is being published: everything arrives in order, if need be twice."""
    way, topic = Proxy(broker.port), "stethos/hall-2/fan/made-up"
    texts = [str(number) for number in range(2_000)]
    with MqttPublisher(MqttConfig(port=way.port), node="hall-2") as publisher:
        with Subscriber(broker) as before:
            for text in texts[:1_000]:
                publisher.publish_retained("fan/made-up", text)
            way.become("refuses")
            wait_until(lambda: is_quiet(before))  # or the broker dies with what it has acknowledged and not passed on
            broker.kill()
        broker.start()
        with Subscriber(broker) as after:
            way.become("fair")
            for text in texts[1_000:]:
                publisher.publish_retained("fan/made-up", text)
            publisher.close()
            wait_until(lambda: after.on(topic)[-1:] == texts[-1:])
    assert list(dict.fromkeys(before.on(topic) + after.on(topic))) == texts


def test_a_broker_that_is_not_there_is_one_line(demo_normal: Path, demo_bundle: Path) -> None:
    port = free_port()
    ran = monitor("--replay", demo_normal, "--model", demo_bundle, "--publish", environment={"STETHOS_MQTT__PORT": str(port)})
    assert ran.status == 1
    assert ran.stderr.splitlines() == [
        f"monitor: error: mqtt: 127.0.0.1:{port} cannot be reached: [Errno 111] Connection refused"
    ]


def test_a_host_that_does_not_exist_is_one_line(demo_normal: Path, demo_bundle: Path) -> None:
    environment = {"STETHOS_MQTT__HOST": "nowhere.invalid", "STETHOS_MQTT__PLAIN_TEXT": "allowed"}
    ran = monitor("--replay", demo_normal, "--model", demo_bundle, "--publish", environment=environment)
    assert ran.status == 1
    assert len(ran.errors) == 1
    assert "mqtt: nowhere.invalid:1883 cannot be reached" in ran.errors[0]


def test_a_broker_that_refuses_is_one_line(tmp_path: Path, demo_normal: Path, demo_bundle: Path) -> None:
    with running_broker(tmp_path, "allow_anonymous false\n") as broker:
        ran = publish(broker, "--replay", demo_normal, "--model", demo_bundle)
    assert ran.status == 1
    assert len(ran.errors) == 1
    assert "refused the connection: Not authorized" in ran.errors[0]


def test_a_broker_that_refuses_every_message_is_said(tmp_path: Path, demo_normal: Path, demo_bundle: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read #\n")
    with running_broker(tmp_path, f"allow_anonymous true\nacl_file {acl}\n") as broker:
        environment = {"STETHOS_MQTT__PORT": str(broker.port), "STETHOS_MQTT__PROTOCOL": "5"}
        ran = monitor("--replay", demo_normal, "--model", demo_bundle, "--publish", environment=environment)
    assert ran.status == 1
    n = len(ran.errors) and int(ran.errors[0].split(" rejected ")[1].split()[0])
    assert n > 0
    assert ran.errors == [f"monitor: error: mqtt: 127.0.0.1:{broker.port} rejected {n} of {n} messages: Not authorized"]
    assert ran.files[0]["verdict"] == "normal"


@pytest.mark.parametrize(
    ("protocol", "limit", "status"),
    [("5", "max_packet_size 20000", 0), ("5", "message_size_limit 20000", 1), ("3.1.1", "max_packet_size 20000", 1)],
)
def test_a_picture_that_is_too_large_for_the_broker_keeps_no_event_back(
    protocol: str, limit: str, status: int, tmp_path: Path, demo_fault: Path, demo_bundle: Path
) -> None:
    """A broker that does not state its limit closes the connection, so that the reason is not known."""
    with running_broker(tmp_path, f"allow_anonymous true\n{limit}\n") as broker, Subscriber(broker) as subscriber:
        environment = {"STETHOS_MQTT__PORT": str(broker.port), "STETHOS_MQTT__PROTOCOL": protocol}
        ran = monitor("--replay", demo_fault, "--model", demo_bundle, "--publish", environment=environment)
        assert [event["event_type"] for event in subscriber.events()] == ["start", "update", "end"]
        assert subscriber.on("stethos/replay/demo-fan/anomaly")[-1] == "None"
    assert ran.status == status
    assert len(ran.errors) == status
    assert "stethos/replay/demo-fan/snapshot rejected by" in ran.stderr


def test_an_event_that_is_too_large_for_the_broker_keeps_nothing_else_back(
    tmp_path: Path, demo_fault: Path, demo_bundle: Path
) -> None:
    with running_broker(tmp_path, "allow_anonymous true\nmax_packet_size 600\n") as broker, Subscriber(broker) as subscriber:
        environment = {"STETHOS_MQTT__PORT": str(broker.port), "STETHOS_MQTT__PROTOCOL": "5"}
        ran = monitor("--replay", demo_fault, "--model", demo_bundle, "--publish", environment=environment)
    assert subscriber.on("stethos/replay/demo-fan/anomaly") == ["None", "OFF", "ON", "OFF", "None"]
    assert ran.status == 1
    assert re.search(r"rejected 3 of 2\d messages: 8\d\d bytes are more than the broker accepts \(600\)", ran.errors[0])


def test_a_server_that_is_no_broker_is_one_line(demo_normal: Path, demo_bundle: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        environment = {"STETHOS_MQTT__PORT": str(deaf.getsockname()[1])}
        ran = monitor("--replay", demo_normal, "--model", demo_bundle, "--publish", environment=environment)
    assert ran.status == 1
    assert "did not answer as a broker within 10 s" in ran.errors[0]


def test_a_reader_of_stdout_that_leaves_takes_nothing_from_the_subscribers(
    broker: Broker, demo_fault: Path, demo_bundle: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "monitor.cli.main", "--publish", "--replay", str(demo_fault), "--model", str(demo_bundle)]
    environment = {**os.environ, "STETHOS_MQTT__PORT": str(broker.port)}
    with Subscriber(broker) as subscriber:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment, check=False)
    os.close(write)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    kinds = [json.loads(payload)["event_type"] for payload in subscriber.on("stethos/replay/demo-fan/event")]
    assert kinds == ["start", "end"]
    assert subscriber.on("stethos/replay/demo-fan/anomaly")[-1] == "None"
    assert subscriber.on("stethos/replay/status")[-1] == "offline"


def test_an_interrupt_does_not_wait_for_a_dead_broker(broker: Broker, demo_fault: Path, demo_bundle: Path) -> None:
    with Subscriber(broker) as watcher:
        process = start_slow_replay(broker, demo_fault, demo_bundle)
        wait_until(lambda: bool(watcher.on("stethos/replay/demo-fan/state")))
    broker.kill()
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - began < 10
