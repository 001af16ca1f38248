"""Packets as a hostile broker may send them. See tests/fuzz.py."""

import random
import socket
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from monitor.config import MqttConfig
from monitor.mqtt.client import BrokerClient, Disconnected, Signal
from tests.waiting import wait_until

CONNACK = bytes([0x20, 2, 0, 0])
PUBACK = b"\x40\x02\x77\x77"  # of the probe


def variable_length(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 | 128]) + variable_length(number // 128)


def publish(topic: bytes, payload: bytes, *, qos: int = 0, mid: int = 1, retain: bool = False, properties: bytes = b"") -> bytes:
    body = struct.pack(">H", len(topic)) + topic + (struct.pack(">H", mid) if qos else b"") + properties + payload
    return bytes([0x30 | qos << 1 | retain]) + variable_length(len(body)) + body


def arriving(chance: random.Random, properties: bytes) -> Iterator[bytes]:
    """Packets as a hostile broker may send them: payloads and topics of every kind, and damaged packets."""
    valid = b'{"request": "x"}'
    payloads = [
        *(b"", b"\0", b"\xff\xfe\xfd", b"null", b"NaN", b"[NaN]", b'{"request": NaN}', b'{"duration_s": 1e999}', b'"' * 5_000),
        *(b"[" * 60_000, b'{"a":' * 12_000, b"{" * 60_000, valid * 4_000, b'{"request": "' + b"x" * 60_000 + b'"}'),
        *(
            b'{"request": "\\ud800"}',
            '{"request": "\u202e\n"}'.encode(),
            b'{"request": "\\u0000"}',
            b'{"minutes": -1e308}',
            valid,
        ),
        *(b"9" * 60_000, b'{"minutes": ' + b"9" * 5_000 + b"}", b"online", b"online\0", b"offline"),
    ]
    names = [b"ack", b"snooze", b"enable", b"disable", b"clip", b"calibrate", b"x" * 64, b"x" * 65, b"..", b"\0", b"\xff", b""]
    machines = [b"fan", b"pump", b"a" * 64, b"a" * 1_000, b"+", b"#", b"$SYS", b"\xc3\x28", "\u202e".encode(), b"", b"fan\n"]
    while True:
        topic = chance.choice(
            [
                b"/".join([b"stethos/hall-2", chance.choice(machines), b"set", chance.choice(names)]),
                *(b"homeassistant/status", b"", b"/" * 1_000, chance.randbytes(20), b"stethos/hall-2/status"),
            ]
        )
        qos, retain = chance.choice([0, 1]), chance.random() < 0.5
        packet = publish(topic, chance.choice(payloads), qos=qos, retain=retain, properties=properties)
        if chance.random() < 0.3:
            damaged = bytearray(packet)
            for _ in range(chance.randint(1, 3)):
                damaged[chance.randrange(min(40, len(damaged)))] = chance.randrange(256)
            packet = bytes(damaged)
        elif chance.random() < 0.1:
            kind = chance.choice([0x20, 0x40, 0x90, 0xD0, 0xE0])
            body = chance.randbytes(chance.randrange(6))
            packet = bytes([kind | chance.choice([0, 0, 0, 3]), len(body)]) + body
        yield packet


def mutants(n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`n` packets."""
    for packet in islice(arriving(random.Random(seed), b""), n):
        yield f"type-{packet[0] >> 4}", packet


def read(packet: bytes, folder: Path) -> str | None:
    """Send a packet and a valid message to a client: None if it acknowledges the message, or the reason for its disconnection."""
    signals: list[Signal] = []
    received = b""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = MqttConfig.model_validate({"port": listener.getsockname()[1]})
        client = BrokerClient(config, client_id="x", will=None, on_signal=signals.append, on_message=lambda _: None)
        client.start()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20.0)
            connection.recv(1_000)
            try:
                connection.sendall(CONNACK + packet + publish(b"probe", b"", qos=1, mid=0x7777))
                connection.shutdown(socket.SHUT_WR)
                while PUBACK not in received and (data := connection.recv(65_536)):
                    received += data
            except OSError as error:  # the client hung up
                assert not isinstance(error, TimeoutError)
    wait_until(lambda: signals and isinstance(signals[-1], Disconnected), 20.0)
    (last,) = (signal for signal in signals if isinstance(signal, Disconnected))
    return None if PUBACK in received else last.reason
