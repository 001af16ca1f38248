"""`monitor mqtt-test`: test the connection to the broker step by step; a failed step reports its likely cause."""

import argparse
import os
import queue
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from monitor.config import MqttConfig, load_config
from monitor.errors import SinkError, UsageError
from monitor.mqtt.client import CONNECT_TIMEOUT_S, Acknowledged, BrokerClient, Connected, Disconnected, Received, Signal
from monitor.mqtt.connect_errors import alert, connect_error_text
from monitor.mqtt.credentials import tls_context

TIMEOUT_S = 5.0
EVENT_BYTES = 2_000  # events are shorter
EPILOG = """\
Stops at the first step that fails, and names its likely cause. It publishes to `<prefix>/<node>/mqtt-test` only. Exit status: 0
if every step succeeds, else 1.

  sudo monitor mqtt-test
  monitor --config new.yaml mqtt-test
"""


def run(arguments: argparse.Namespace) -> int:
    """`monitor mqtt-test --config FILE`."""
    config = load_config(arguments.config, os.environ)
    if config.mqtt is None:
        raise UsageError("mqtt is null in the configuration: this node works without a broker, so there is none to test")
    return try_broker(config.mqtt, config.node)


def try_broker(config: MqttConfig, node: str) -> int:
    """Print one line per step, up to the first failure; return 0 on success, else 1."""
    test = BrokerTest(config, node)
    steps: dict[str, Callable[[], str]] = {
        "DNS": test.resolve,
        "TCP": test.connect,
        "TLS": test.secure,
        "login": test.log_in,
        "publish": test.publish,
        "read back": test.read_back,
        "last will": test.last_will,
    }
    print(f"Testing the broker at {config.address} for node {node}:")
    try:
        for name, step in steps.items():
            print(f"  {name:10}", end="", flush=True)
            print(f"ok      {step()}")
    except SinkError as error:
        print(f"FAILED  {error}")
        return 1
    finally:
        test.close()
    return 0


class BrokerTest:
    """The steps of the test, in order. Each returns its result as text, or raises SinkError with the likely cause."""

    def __init__(self, config: MqttConfig, node: str) -> None:
        self._config = config
        self._client_id = f"{config.client_id or f'stethos-{node}'}-test"  # using the service's id would disconnect the service
        self._topic = f"{config.prefix}/{node}/mqtt-test"
        self._who = f"user {config.user}" if config.user is not None else "an anonymous user"
        self._text = uuid.uuid4().hex
        self._socket: socket.socket | None = None
        self._clients: list[BrokerClient] = []
        self._signals: queue.SimpleQueue[tuple[BrokerClient, Signal]] = queue.SimpleQueue()
        self._received: list[Received] = []
        self._acknowledged: list[Acknowledged] = []  # received by the first client
        self._connected: set[BrokerClient] = set()
        self._max_packet: int | None = None
        self._subscription: int | None = None

    def resolve(self) -> str:
        """Look up the host name."""
        try:
            found = socket.getaddrinfo(self._config.host, self._config.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SinkError(f"{error} (is mqtt.host right, and does this computer have a DNS server?)") from error
        return ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))

    def connect(self) -> str:
        """Connect to the port."""
        began = time.monotonic()
        try:
            self._socket = socket.create_connection((self._config.host, self._config.port), timeout=TIMEOUT_S)
        except ConnectionRefusedError as error:
            raise SinkError(
                f"connection refused at port {self._config.port} (is the broker running, and is mqtt.port right?)"
            ) from error
        except TimeoutError as error:
            raise SinkError(
                f"no response within {TIMEOUT_S:.0f} s (is there a firewall, or is the broker's computer off?)"
            ) from error
        except OSError as error:
            raise SinkError(f"{error} (is this computer on the network?)") from error
        return f"connected after {1_000 * (time.monotonic() - began):.0f} ms"

    def secure(self) -> str:
        """Perform the TLS handshake."""
        if self._config.tls is None:
            return "not used; the connection is not encrypted"
        assert self._socket is not None
        context = tls_context(self._config.tls)
        try:
            with context.wrap_socket(self._socket, server_hostname=self._config.host) as secured:
                self._wait_for_alert(secured)
                certificate: dict[str, Any] = secured.getpeercert() or {}
                return f"{secured.version()}, the broker's certificate is valid until {certificate.get('notAfter', '(no date)')}"
        except OSError as error:
            raise SinkError(f"the broker {connect_error_text(error)}") from error

    def log_in(self) -> str:
        """Log in."""
        self._open(will=None)
        if self._max_packet is not None and self._max_packet < EVENT_BYTES:
            raise SinkError(
                f"the broker accepts packets of at most {self._max_packet} bytes, but events can have {EVENT_BYTES} "
                "(mosquitto: max_packet_size)"
            )
        return f"accepted as {self._who}, MQTT {self._config.protocol}"

    def publish(self) -> str:
        """Publish a message and wait for its acknowledgement."""
        client = self._clients[0]
        self._subscription = client.subscribe(self._topic)
        mid = client.publish(self._topic, self._text, qos=1, retain=False)
        hint = f"may {self._who} write {self._topic}, and does the broker support QoS 1 (mosquitto: max_qos)?"
        with _hint(hint):
            self._wait_for_acknowledgement(mid)
        if (refusal := self._refusal(mid)) is not None:
            raise SinkError(f"refused: {refusal} (check in the broker's ACL that {self._who} may write {self._topic})")
        return f"{self._topic} was acknowledged"

    def read_back(self) -> str:
        """Wait until the published message arrives."""
        if (refusal := self._refusal(self._subscription)) is not None:
            raise SinkError(f"refused: {refusal} (check in the broker's ACL that {self._who} may read {self._topic})")
        failure = f"no message arrived (check in the broker's ACL that {self._who} may write and read {self._topic})"
        self._until(lambda: self._has_received(self._text), failure)
        return "the message came back"

    def last_will(self) -> str:
        """Break a connection and wait for its last will."""
        with _hint("does the broker support retained messages (mosquitto: retain_available)?"):
            self._open(will=(self._topic, f"will-{self._text}")).abort("closed")
        self._until(lambda: self._has_received(f"will-{self._text}"), "the broker did not publish the will of a lost connection")
        self._wait_for_acknowledgement(self._clients[0].publish(self._topic, "", qos=1, retain=True))
        return "the broker published the will of a lost connection"

    def close(self) -> None:
        """Close all connections."""
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
            hint = " (are mqtt.user and the password right?)" if "authorized" in str(error) else ""
            raise SinkError(f"{error}{hint}") from error
        return client

    def _wait_for_acknowledgement(self, mid: int) -> None:
        self._until(lambda: any(one.mid == mid for one in self._acknowledged), "no acknowledgement from the broker")

    def _until(self, condition: Callable[[], bool], failure: str, *, timeout_s: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise SinkError(f"{failure}; waited {timeout_s:.0f} s")
            with suppress(queue.Empty):
                self._process(*self._signals.get(timeout=0.1))

    def _process(self, client: BrokerClient, signal: Signal) -> None:
        if isinstance(signal, Connected):
            self._connected.add(client)
            self._max_packet = signal.max_packet
        elif isinstance(signal, Acknowledged) and client is self._clients[0]:
            self._acknowledged.append(signal)
        elif isinstance(signal, Disconnected) and (client is self._clients[0] or client not in self._connected):
            raise SinkError(f"the broker {signal.reason}")

    def _refusal(self, mid: int | None) -> str | None:
        return next((one.refusal for one in self._acknowledged if one.mid == mid), None)

    def _has_received(self, text: str) -> bool:
        return any(message.payload == text.encode() for message in self._received)

    @staticmethod
    def _wait_for_alert(secured: ssl.SSLSocket) -> None:
        """Wait for an alert. With TLS 1.3 the broker rejects our certificate only after the handshake."""
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


@contextmanager
def _hint(text: str) -> Iterator[None]:
    """Replace the likely cause of a failure, because earlier steps have excluded others."""
    try:
        yield
    except SinkError as error:
        raise SinkError(f"{str(error).partition(' (')[0].partition(': it may')[0]} ({text})") from error
