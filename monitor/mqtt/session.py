"""One connection to an MQTT broker, from its beginning to its end; the only file that imports paho."""

import fcntl
import select
import socket
import struct
import termios
import time
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, LogLevel
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from monitor.config import MqttConfig
from monitor.errors import SinkError
from monitor.mqtt.connect_errors import alert, connect_error_text
from monitor.mqtt.credentials import password, tls_context

CONNECT_TIMEOUT_S = 10.0  # for TCP, for TLS and for the broker's answer, each
MAX_IN_FLIGHT = 20  # what mosquitto takes by default
MAX_INCOMING = 65_536  # bytes of a packet; commands are much shorter
TOO_LARGE = "Packet too large"  # MQTT 5's reason, in paho's words
HANGS_UP = ("reset by peer", "Broken pipe", "EOF")  # in paho's complaints: the other side has closed the connection


@dataclass(frozen=True, kw_only=True)
class Received:
    """A message from the broker. `retained`: it was kept by the broker, not sent just now."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """The broker's answer to a message, or its no to a subscription.

    `refusal` is why it did not take it; of a message only MQTT 5 knows it.
    """

    token: int
    refusal: str | None


class Session:
    """A connection used by one thread: `open`, then `turn` again and again; every failure is a SinkError with its cause."""

    def __init__(self, config: MqttConfig, *, client_id: str, will: tuple[str, str] | None) -> None:
        self._config = config
        self._client_id = client_id
        self._acknowledged: list[Acknowledged] = []
        self._received: list[Received] = []
        self._unacknowledged: set[int] = set()
        self._progress = self._began = time.monotonic()
        self._unsent = 0  # bytes that the other computer has not confirmed,
        self._moved_at = float("-inf")  # and when they last became fewer
        self._complaint: str | None = None  # paho's own words
        self._end: str | None = None
        self._is_too_long = False
        self.accepted = False
        self.max_packet: int | None = None  # bytes that the broker takes, where it says so (MQTT 5)
        self.hung_up = False  # the broker has ended the connection after it had accepted it, without a reason but size
        protocol = MQTTv5 if config.protocol == "5" else MQTTv311
        self._client = client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, reconnect_on_failure=False
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(MAX_IN_FLIGHT)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_message, client.on_log = self._on_publish, self._on_message, self._on_log
        client.on_subscribe = self._on_subscribe
        if will is not None:
            client.will_set(*will, qos=1, retain=True)

    def open(self) -> None:
        """Resolve, connect, agree on TLS and send the login; blocks for at most CONNECT_TIMEOUT_S a step and address."""
        if self._config.tls is not None:
            self._client.tls_set_context(tls_context(self._config.tls))
        if self._config.user is not None:
            self._client.username_pw_set(self._config.user, password(self._config))
        self._began = time.monotonic()
        limits = _limits() if self._config.protocol == "5" else None
        try:
            self._client.connect(self._config.host, self._config.port, self._config.keepalive_s, properties=limits)
        except (OSError, ValueError) as error:
            raise SinkError(connect_error_text(error)) from error

    def turn(self, wait_s: float, wakeup: socket.socket) -> tuple[list[Acknowledged], list[Received]]:
        """Exchange what there is, waiting for at most `wait_s` or until `wakeup` can be read; returns what arrived."""
        sock: Any = self._client.socket()
        if sock is not None:
            decrypted = hasattr(sock, "pending") and sock.pending() > 0
            writers = [sock] if self._client.want_write() else []
            readable, writable, _ = select.select([sock, wakeup], writers, [], 0.0 if decrypted else wait_s)
            if decrypted or sock in readable:
                self._client.loop_read()
                self._hang_up_on_a_giant()
            if sock in writable:
                self._client.loop_write()
            if not self._is_sending():
                self._client.loop_misc()
        arrived = self._acknowledged, self._received
        self._acknowledged, self._received = [], []
        if self._end is None and self._client.socket() is None:
            self._end, self.hung_up = "ends the connection", self.accepted
        if not any(arrived):
            self._check()
        return arrived

    def publish(self, topic: str, payload: str | bytes, *, qos: int, retain: bool) -> int:
        """Send to an absolute topic; returns the token that its acknowledgement (QoS 1) will carry."""
        token = self._client.publish(topic, payload, qos=qos, retain=retain).mid
        if qos:
            if not self._unacknowledged:
                self._progress = time.monotonic()
            self._unacknowledged.add(token)
        return token

    def subscribe(self, topic: str, *, as_published: bool = False) -> int | None:
        """Ask for messages, QoS 1; returns the token that a refusal will carry.

        `as_published`: also messages that are sent just now say whether they are retained (MQTT 5 only).
        """
        if as_published and self._config.protocol == "5":
            return self._client.subscribe(topic, options=SubscribeOptions(qos=1, retainAsPublished=True))[1]
        return self._client.subscribe(topic, qos=1)[1]

    @property
    def unacknowledged(self) -> int:
        """How many messages of QoS 1 the broker has not answered yet."""
        return len(self._unacknowledged)

    def close(self) -> None:
        """Disconnect; the broker does not publish the last will."""
        self._client.disconnect()
        self.abandon()

    def abandon(self) -> None:
        """Hang up without a word, so that the broker publishes the last will."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _is_sending(self) -> bool:
        """Whether a message is moving, however slowly: then a broker that says nothing is no broker that is gone."""
        sock: Any = self._client.socket()
        before, self._unsent = self._unsent, 0
        if sock is not None and self._unacknowledged:
            (self._unsent,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
        now = time.monotonic()
        if self._unsent < before:
            self._progress = self._moved_at = now
        return now - self._moved_at < self._config.keepalive_s / 2

    def _hang_up_on_a_giant(self) -> None:
        """paho takes packets of any length, as they come, and MQTT 3.1.1 has no way to ask for shorter ones."""
        if self._is_too_long or self._client._in_packet["remaining_length"] > MAX_INCOMING:
            raise SinkError(f"sends a message of more than {MAX_INCOMING} bytes")

    def _check(self) -> None:
        """Raise what has ended the connection; a broker that is silent for too long has, too."""
        now = time.monotonic()
        if self._end is not None:
            raise SinkError(self._end)
        if not self.accepted and now - self._began > CONNECT_TIMEOUT_S:
            raise SinkError(f"does not answer as a broker after {now - self._began:.0f} s")
        if self._unacknowledged and now - self._progress > self._config.keepalive_s:
            raise SinkError(f"leaves {self.unacknowledged} messages unacknowledged after {now - self._progress:.0f} s")

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self.accepted = not reason.is_failure
        self.max_packet = getattr(properties, "MaximumPacketSize", None)
        # paho reads this neither, and its own setter is for before the connection; nothing is under way yet
        self._client._max_inflight_messages = min(MAX_IN_FLIGHT, getattr(properties, "ReceiveMaximum", MAX_IN_FLIGHT))
        if reason.is_failure:
            self._end = f"refuses the connection: {reason}"

    def _on_disconnect(
        self, _client: Client, _data: Any, flags: DisconnectFlags, reason: ReasonCode, _: Properties | None
    ) -> None:
        if self._end is not None:
            return
        if (meaning := alert(self._complaint or "")) is not None:
            self._end = f"refuses TLS: {meaning}"
        elif str(reason) == "Keep alive timeout":
            self._end = f"does not answer any more (for {self._config.keepalive_s} s or longer)"
        elif flags.is_disconnect_packet_from_server:
            self._end, self.hung_up = f"ends the connection: {reason}", str(reason) == TOO_LARGE
        elif self.accepted:
            why = (
                f": {self._complaint}" if self._complaint else f" (does it stop, or is another client called {self._client_id}?)"
            )
            self._end = f"ends the connection{why}"
            self.hung_up = self._complaint is None or any(words in self._complaint for words in HANGS_UP)
        else:
            self._end = f"hangs up before it answers: {self._guess()}"

    def _guess(self) -> str:
        """Why a broker would hang up on the first message."""
        if self._config.tls is None:
            return "it may want TLS (mqtt.tls), or be no broker"
        if self._config.tls.certificate is None:
            return "it may want a client certificate (mqtt.tls.certificate and key)"
        return "it may not accept our certificate (mqtt.tls.certificate)"

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _: Properties) -> None:
        if mid not in self._unacknowledged:  # of QoS 0: paho has sent it, nobody has answered
            return
        self._unacknowledged.remove(mid)
        self._progress = time.monotonic()
        self._acknowledged.append(Acknowledged(token=mid, refusal=str(reason) if reason.is_failure else None))

    def _on_subscribe(
        self, _client: Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        for reason in reasons:
            if reason.is_failure:
                self._acknowledged.append(Acknowledged(token=mid, refusal=str(reason)))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._is_too_long = len(message.payload) > MAX_INCOMING
        self._received.append(Received(topic=message.topic, payload=bytes(message.payload), retained=message.retain))

    def _on_log(self, _client: Client, _data: Any, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._complaint = text


def _limits() -> Properties:
    """What a broker that speaks MQTT 5 should know of us."""
    limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    limits.MaximumPacketSize = MAX_INCOMING
    return limits
