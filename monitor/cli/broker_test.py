"""`monitor mqtt-test`: go the way to the broker step by step, and say of the step that fails what the cause may be."""

import argparse
import os
import queue
import socket
import ssl
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from monitor.config import MqttConfig, load_config
from monitor.errors import SinkError
from monitor.mqtt.client import CONNECT_TIMEOUT_S, Acknowledged, BrokerClient, Connected, Disconnected, Received, Signal
from monitor.mqtt.connect_errors import alert, connect_error_text
from monitor.mqtt.credentials import tls_context

TIMEOUT_S = 5.0


def run(arguments: argparse.Namespace) -> int:
    """`monitor mqtt-test --config FILE`."""
    config = load_config(arguments.config, os.environ)
    return try_broker(config.mqtt, config.node)


def try_broker(config: MqttConfig, node: str) -> int:
    """Print one line a step, up to the first that fails; returns 0 when all went well, else 1."""
    trial = BrokerTest(config, node)
    steps: dict[str, Callable[[], str]] = {
        "DNS": trial.resolve,
        "TCP": trial.connect,
        "TLS": trial.secure,
        "login": trial.log_in,
        "publish": trial.publish,
        "read back": trial.read_back,
        "last will": trial.last_will,
    }
    print(f"The way to the broker at {config.host}:{config.port} for node {node}:")
    try:
        for name, step in steps.items():
            print(f"  {name:10}", end="", flush=True)
            print(f"ok      {step()}")
    except SinkError as error:
        print(f"FAILED  {error}")
        return 1
    finally:
        trial.close()
    return 0


class BrokerTest:
    """The steps, in their order. Each returns what it found, or raises SinkError with the likely cause."""

    def __init__(self, config: MqttConfig, node: str) -> None:
        self._config = config
        self._client_id = f"{config.client_id or f'stethos-{node}'}-test"  # not that of the service, which would be thrown out
        self._topic = f"{config.prefix}/{node}/mqtt-test"
        self._who = f"user {config.user}" if config.user is not None else "an anonymous user"
        self._said = uuid.uuid4().hex
        self._socket: socket.socket | None = None
        self._clients: list[BrokerClient] = []
        self._signals: queue.SimpleQueue[tuple[BrokerClient, Signal]] = queue.SimpleQueue()
        self._received: list[Received] = []
        self._acknowledged: list[Acknowledged] = []  # by the first client
        self._connected: set[BrokerClient] = set()
        self._subscription: int | None = None

    def resolve(self) -> str:
        """The name has an address."""
        try:
            found = socket.getaddrinfo(self._config.host, self._config.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SinkError(f"{error} (is mqtt.host right, and does this computer have a DNS server?)") from error
        return ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))

    def connect(self) -> str:
        """Something listens at the port."""
        began = time.monotonic()
        try:
            self._socket = socket.create_connection((self._config.host, self._config.port), timeout=TIMEOUT_S)
        except ConnectionRefusedError as error:
            raise SinkError(f"nobody listens at port {self._config.port} (does the broker run, is mqtt.port right?)") from error
        except TimeoutError as error:
            raise SinkError(f"no answer for {TIMEOUT_S:.0f} s (a firewall, or a computer that is off?)") from error
        except OSError as error:
            raise SinkError(f"{error} (is this computer in the network?)") from error
        return f"connected after {1_000 * (time.monotonic() - began):.0f} ms"

    def secure(self) -> str:
        """Both sides accept the other's certificate."""
        if self._config.tls is None:
            return "not used, all is plain text"
        assert self._socket is not None
        context = tls_context(self._config.tls)
        try:
            with context.wrap_socket(self._socket, server_hostname=self._config.host) as secured:
                self._wait_for_alert(secured)
                certificate: dict[str, Any] = secured.getpeercert() or {}
                return f"{secured.version()}, the broker's certificate is valid until {certificate.get('notAfter', 'ever')}"
        except OSError as error:
            raise SinkError(f"the broker {connect_error_text(error)}") from error

    def log_in(self) -> str:
        """The broker takes us."""
        self._open(will=None)
        return f"accepted as {self._who}, MQTT {self._config.protocol}"

    def publish(self) -> str:
        """The broker acknowledges a message."""
        client = self._clients[0]
        self._subscription = client.subscribe(self._topic)
        mid = client.publish(self._topic, self._said, qos=1, retain=False)
        self._wait_for_acknowledgement(mid)
        if (refusal := self._refusal(mid)) is not None:
            raise SinkError(f"refused: {refusal} (may {self._who} write {self._topic}? See the broker's ACL)")
        return f"{self._topic} was acknowledged"

    def read_back(self) -> str:
        """What was published arrives."""
        if (refusal := self._refusal(self._subscription)) is not None:
            raise SinkError(f"refused: {refusal} (may {self._who} read {self._topic}? See the broker's ACL)")
        complaint = f"nothing arrives (may {self._who} write and read {self._topic}? See the broker's ACL)"
        self._until(lambda: self._has_heard(self._said), complaint)
        return "the same message came back"

    def last_will(self) -> str:
        """The broker tells when a connection breaks."""
        self._open(will=(self._topic, f"will-{self._said}")).abort("closed")
        self._until(lambda: self._has_heard(f"will-{self._said}"), "the broker does not publish the will of a lost connection")
        self._wait_for_acknowledgement(self._clients[0].publish(self._topic, "", qos=1, retain=True))
        return "the broker told that a connection broke"

    def close(self) -> None:
        """Leave nothing behind."""
        for client in self._clients:
            client.disconnect()
        if self._socket is not None:
            self._socket.close()

    def _open(self, will: tuple[str, str] | None) -> BrokerClient:
        client = BrokerClient(
            self._config,
            client_id=f"{self._client_id}-{len(self._clients)}",
            will=will,
            on_signal=lambda signal: self._signals.put((client, signal)),
            on_message=self._received.append,
        )
        self._clients.append(client)
        client.start()
        try:
            self._until(lambda: client in self._connected, "the broker does not answer", timeout_s=3 * CONNECT_TIMEOUT_S)
        except SinkError as error:
            hint = " (are user and password right, and does the broker know them?)" if "authorized" in str(error) else ""
            raise SinkError(f"{error}{hint}") from error
        return client

    def _wait_for_acknowledgement(self, mid: int) -> None:
        self._until(lambda: any(one.mid == mid for one in self._acknowledged), "the broker does not acknowledge")

    def _until(self, condition: Callable[[], bool], complaint: str, *, timeout_s: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise SinkError(f"{complaint}; waited {timeout_s:.0f} s")
            with suppress(queue.Empty):
                self._process(*self._signals.get(timeout=0.1))

    def _process(self, client: BrokerClient, signal: Signal) -> None:
        if isinstance(signal, Connected):
            self._connected.add(client)
        elif isinstance(signal, Acknowledged) and client is self._clients[0]:
            self._acknowledged.append(signal)
        elif isinstance(signal, Disconnected) and (client is self._clients[0] or client not in self._connected):
            raise SinkError(f"the broker {signal.reason}")

    def _refusal(self, mid: int | None) -> str | None:
        return next((one.refusal for one in self._acknowledged if one.mid == mid), None)

    def _has_heard(self, text: str) -> bool:
        return any(message.payload == text.encode() for message in self._received)

    @staticmethod
    def _wait_for_alert(secured: ssl.SSLSocket) -> None:
        """With TLS 1.3 the broker complains of our certificate after the handshake, and by nothing else."""
        secured.settimeout(0.5)
        try:
            silent = secured.recv(1) != b""
        except TimeoutError:
            return
        except OSError as error:
            if (meaning := alert(str(error))) is not None:
                raise SinkError(f"the broker refused TLS: {meaning}") from error
            raise
        if not silent:
            raise SinkError(
                "the broker closed the connection after the handshake "
                "(does it require a client certificate, mqtt.tls.certificate and key?)"
            )
