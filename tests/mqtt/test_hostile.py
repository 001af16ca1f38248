"""A broker that is hostile or taken over: it fills no memory, takes no processor, ends no thread and writes no traceback."""

import random
import socket
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from monitor.config import MqttConfig
from monitor.daemon.control.commands import Commands
from monitor.mqtt.client import MAX_PACKETS, BrokerClient, Connected, Disconnected, Received, Signal
from monitor.mqtt.packets import MAX_BYTES
from monitor.mqtt.sink import MqttSink
from tests.broker import running_broker, say
from tests.mqtt.anomalies import anomaly, keys
from tests.mqtt.mutants import CONNACK, arriving, publish, variable_length
from tests.subscriber import Subscriber
from tests.waiting import wait_until

CONNACK_5 = bytes([0x20, 3, 0, 0, 0])
BASE = "stethos/hall-2"
COMMAND = f"{BASE}/fan/set/ack"
QUICK = {"keepalive_s": 5, "reconnect_min_s": 0.1, "reconnect_max_s": 0.2}
Script = Callable[[socket.socket], None]


@contextmanager
def hostile(script: Script, connack: bytes = CONNACK) -> Iterator[int]:
    """The port of a server that accepts every connection and then follows the script. It does not read what it is sent."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(1_000)
                    connection.sendall(connack)
                    script(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])


class Client:
    """A BrokerClient, and what it reported."""

    def __init__(self, port: int, protocol: str = "3.1.1") -> None:
        self.signals: list[Signal] = []
        self.received: list[Received] = []
        config = MqttConfig.model_validate({"port": port, "protocol": protocol})
        self.client = BrokerClient(
            config, client_id="x", will=None, on_signal=self.signals.append, on_message=self.received.append
        )

    def __enter__(self) -> "Client":
        self.client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.abort("closed")

    @property
    def end(self) -> str | None:
        last = self.signals[-1] if self.signals else None
        return last.reason if isinstance(last, Disconnected) else None


def forever(data: bytes) -> Script:
    def send(connection: socket.socket) -> None:
        while True:
            connection.sendall(data)

    return send


REFUSED = {
    "QoS 2": (forever(publish(b"a", bytes(60_000), qos=2)), "sent a message of QoS 2, although QoS 1 was requested"),
    "QoS 3": (forever(publish(b"a", b"", qos=3)), "sent a message of QoS 2, although QoS 1 was requested"),
    "PUBREL": (forever(b"\x62\x02\0\1"), "sent a packet of type 6, which a broker must not send"),
    "PINGREQ": (forever(b"\xc0\0" * 1_000), "sent a packet of type 12, which a broker must not send"),
    "CONNECT": (forever(b"\x10\xff\xff\xff\x7f" + bytes(1_000)), "sent a packet of type 1, which a broker must not send"),
    "AUTH": (forever(b"\xf0\0"), "sent a packet of type 15, which a broker must not send"),
    "type 0": (forever(bytes(1_000)), "sent a packet of type 0, which a broker must not send"),
    "a length that never ends": (forever(b"\x30" + b"\xff" * 1_000), "sent a packet of invalid length"),
    "a large SUBACK": (
        forever(b"\x90" + variable_length(60_002) + b"\0\1" + b"\x80" * 60_000),
        "sent a packet of type 9 with 60002 bytes (at most 4096 are accepted)",
    ),
    "a second CONNACK": (forever(CONNACK), "sent a second CONNACK packet"),
    "a topic longer than its packet": (forever(b"\x30\x04\xff\xffab"), None),
    "an empty PUBLISH": (forever(b"\x30\0"), None),
    "an empty PUBACK": (forever(b"\x40\0"), None),
    "a topic of nothing": (forever(b"\x30\x02\0\0"), None),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_packet_that_must_not_be_sent_ends_the_connection_and_costs_nothing(
    kind: str, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    script, reason = REFUSED[kind]
    with hostile(script, CONNACK if protocol == "3.1.1" else CONNACK_5) as port:
        tracemalloc.start()
        try:
            with Client(port, protocol) as client:
                wait_until(lambda: client.end is not None, 5.0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    if reason is not None and not (kind == "a second CONNACK" and protocol == "5"):
        assert client.end == reason
    assert peak < 2_000_000
    assert len(client.signals) == 2
    assert caplog.records == []


FLOODS = {
    "small messages": publish(b"a", b"0123456789", qos=1) * 100,
    "large messages": publish(b"a", bytes(60_000), qos=1),
    "unknown acknowledgements": bytes([0x40, 2, 0, 77]) * 1_000,
    "pings that nobody sent": b"\xd0\0" * 1_000,
    "a SUBACK that nobody asked for": b"\x90\x03\0\1\x80" * 1_000,
    "messages whose topic is not UTF-8": publish(b"\xff\xfe", b"1", qos=1) * 100,
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_takes_neither_memory_nor_the_processor(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with hostile(forever(FLOODS[kind])) as port:
        tracemalloc.start()
        try:
            with Client(port) as client:
                wait_until(lambda: client.signals)
                time.sleep(3.0)
                n_packets = client.client._paho.packets.n_packets
                client.received.clear()
                seen = client.client.advanced()
                wait_until(lambda: client.client.advanced() > seen, 2.0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert client.signals[0] == Connected(max_in_flight=20, max_packet=None)
    assert n_packets <= 5 * MAX_PACKETS
    assert peak < (n_packets * 60_000 + 5_000_000 if kind == "large messages" else 5_000_000)  # `received` holds them
    assert caplog.records == []


def test_packets_that_are_costly_to_decode_are_read_rarely(caplog: pytest.LogCaptureFixture) -> None:
    """paho needs a long time for thousands of user properties, which any client of the broker may send."""
    properties = b"\x26\0\1a\0\1b" * 9_000
    body = b"\0\1a" + variable_length(len(properties)) + properties
    with hostile(forever(b"\x30" + variable_length(len(body)) + body), CONNACK_5) as port, Client(port, "5") as client:
        wait_until(lambda: len(client.received) > 0)
        began_s, used_s, n = time.monotonic(), time.process_time(), len(client.received)
        wait_until(lambda: len(client.received) > n + 2, 30.0)
        assert time.process_time() - used_s < 0.18 * (time.monotonic() - began_s)
    assert caplog.records == []


@pytest.mark.parametrize("n_bytes", [MAX_BYTES - 4, MAX_BYTES, 10_000_000, 250_000_000])
@pytest.mark.parametrize("retain", [False, True])
def test_a_large_message_is_discarded_unread_and_the_next_one_arrives(n_bytes: int, retain: bool) -> None:
    def script(connection: socket.socket) -> None:
        header = publish(b"a", b"", qos=1, retain=retain)[2:]
        connection.sendall(bytes([0x32 | retain]) + variable_length(len(header) + n_bytes) + header)
        for left in range(n_bytes, 0, -65_536):
            connection.sendall(b"x" * min(left, 65_536))
        connection.sendall(publish(b"b", b"small", qos=1, mid=2))
        acknowledged.append(connection.recv(8, socket.MSG_WAITALL))

    acknowledged: list[bytes] = []
    with hostile(script) as port:
        tracemalloc.start()
        try:
            with Client(port) as client:
                wait_until(lambda: len(client.received) == 2)
                wait_until(lambda: acknowledged == [bytes([0x40, 2, 0, 1, 0x40, 2, 0, 2])])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    large, small = client.received
    assert (large.topic, large.retained, set(large.payload)) == ("a", retain, {ord("x")})
    assert len(large.payload) + large.n_discarded == n_bytes
    assert large.n_discarded == max(0, n_bytes + 5 - MAX_BYTES)
    assert small == Received(topic="b", payload=b"small", retained=False)
    assert peak < 2_000_000


@pytest.mark.parametrize(("protocol", "n_bytes"), [("3.1.1", 100_000), ("3.1.1", 20_000_000), ("5", 100_000)])
@pytest.mark.parametrize("topic", [COMMAND, "homeassistant/status"])
def test_a_large_retained_message_on_a_topic_of_ours_does_not_silence_the_node(
    protocol: str, n_bytes: int, topic: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commands: list[tuple[str, bytes]] = []
    births: list[Received] = []
    (tmp_path / "large").write_bytes(n_bytes * b"x")
    with running_broker(tmp_path) as broker, Subscriber(broker, topic=f"{BASE}/fan/event") as watcher:
        sender = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-r", "-t", topic, "-f", str(tmp_path / "large")]
        subprocess.run(sender, check=True)
        sink = MqttSink(
            MqttConfig.model_validate({"port": broker.port, "protocol": protocol, **QUICK}),
            node="hall-2",
            state_dir=tmp_path,
            on_command=lambda _, name, payload, __: commands.append((name, payload)),
            subscriptions={"homeassistant/status": births.append},
        )
        sink.start()
        for event in anomaly(1):
            sink.publish(event)
        wait_until(lambda: keys(watcher.on(f"{BASE}/fan/event")) == keys(anomaly(1)), 10.0)
        say(broker, f"{BASE}/fan/set/snooze", "{}")
        wait_until(lambda: ("snooze", b"{}") in commands, 10.0)
        assert sink.counts.connections == 1
        assert sink.stop(2.0) == 0
    lines = [record.getMessage() for record in caplog.records]
    if protocol == "5":  # such a broker respects our limit
        assert lines == []
    else:
        assert lines == [f"mqtt: a message on {topic} was not read completely, because it has {n_bytes} bytes"]
        assert len(commands) + len(births) == 2


N_PACKETS = 60  # tests/fuzz.py sends more


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_hostile_packets_end_no_thread_and_write_no_traceback(
    protocol: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    properties = b"" if protocol == "3.1.1" else b"\0"
    packets = arriving(random.Random(5), properties)
    n_sent = n_survived = 0
    probe = publish(b"probe", b"", qos=1, mid=0x7777, properties=properties)

    def script(connection: socket.socket) -> None:
        """Each packet is followed by a valid one, whose acknowledgement shows that the first one was processed."""
        nonlocal n_sent, n_survived
        connection.settimeout(5.0)
        while n_sent < N_PACKETS:
            n_sent += 1
            connection.sendall(next(packets) + probe)
            received = b""
            while b"\x40\x02\x77\x77" not in received:
                if not (data := connection.recv(65_536)):
                    return
                received = received[-3:] + data
            n_survived += 1

    commands = Commands(lambda *_: None, lambda *_: None, lambda _line: None, wake=lambda: None)
    births: list[Received] = []
    with hostile(script, CONNACK if protocol == "3.1.1" else CONNACK_5) as port:
        sink = MqttSink(
            MqttConfig.model_validate({"port": port, "protocol": protocol, **QUICK}),
            node="hall-2",
            state_dir=tmp_path,
            on_command=commands.arrive,
            subscriptions={"homeassistant/status": births.append},
        )
        sink.start()
        for event in anomaly(1):
            sink.publish(event)
        while n_sent < N_PACKETS:
            before = n_sent
            wait_until(lambda before=before: commands.process_pending() or n_sent > before, 10.0)  # type: ignore[misc]
        assert sink.worker_is_alive
        assert sink.counts.worker_errors == commands.n_failures == 0
        assert sink.stop(2.0) == 3
    assert n_survived > N_PACKETS / 4
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert "failed on an unexpected error" not in caplog.text
