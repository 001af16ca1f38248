"""A single connection to an MQTT broker, from the first packet to the last. The only file that imports paho."""

import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
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
from monitor.mqtt.packets import MAX_BYTES, BadPacket, PacketReader

log = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 10.0  # separately for TCP, for TLS and for the broker's reply
MAX_IN_FLIGHT = 20  # mosquitto's default
MAX_PACKETS = 1_000  # per second, so that a flood does not take the processor from the detection
COSTLY_S = 0.01  # processor time of a packet, after which the connection rests REST times as long, but at most MAX_REST_S
REST, MAX_REST_S = 9.0, 5.0
MAX_UNANSWERED = 1_000  # packets that are read while the broker does not read the replies
KEEPALIVE_TIMEOUT = "Keep alive timeout"  # reason code of MQTT 5, which paho uses for all versions
SLOWEST_LINK = 5_000  # bytes per second; a slower link counts as broken


@dataclass(frozen=True, kw_only=True)
class Connected:
    """The broker accepted the connection."""

    max_in_flight: int  # unacknowledged messages of QoS 1
    max_packet: int | None  # bytes, if the broker states a limit (MQTT 5)


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """The broker acknowledged a message, or rejected a message (MQTT 5 only) or a subscription (`refusal`)."""

    mid: int
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True)
class Disconnected:
    """The connection, or the attempt to connect, has ended. This is always the last signal."""

    reason: str
    by_broker: bool = False  # the broker closed it after it had accepted it; also a broken network may look like this


@dataclass(frozen=True, kw_only=True)
class Received:
    """A message from a subscribed topic. `retained`: the broker stored it before the subscription."""

    topic: str
    payload: bytes
    retained: bool
    n_discarded: int = 0  # bytes that the payload lacks, because it was too large


Signal = Connected | Acknowledged | Disconnected


class BrokerClient:
    """A connection, and the thread that runs paho's loop for it.

    `start`, `publish`, `subscribe`, `disconnect` and `abort` do not block, and may be called from any thread.
    """

    def __init__(
        self,
        config: MqttConfig,
        *,
        client_id: str,
        will: tuple[str, str] | None,
        on_signal: Callable[[Signal], None],
        on_message: Callable[[Received], None],
        max_packets: int = MAX_PACKETS,
        max_message: int = MAX_BYTES,
    ) -> None:
        """Both callbacks run on the connection's thread and must not block.

        `max_packets` are read per second, `max_message` bytes of each message.
        """
        self.busy_until = time.monotonic()  # by then, even the slowest link has transmitted what was published
        self._config = config
        self._client_id = client_id
        self._on_signal, self._on_message = on_signal, on_message
        self._error_text: str | None = None  # from paho's log
        self._end: str | None = None
        self._accepted = self._closing = self._by_broker = False
        self._login_by = float("inf")
        self._n_loops = 0
        self._max_packets, self._max_message = max_packets, max_message
        self._n_read = self._n_unanswered = 0  # packets in this second, and since the replies were sent
        self._second = 0
        self._rest_until = 0.0
        self._n_subscribing = 0  # subscriptions that the broker has not answered
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        protocol = MQTTv5 if config.protocol == "5" else MQTTv311
        self._paho = paho = _BoundedClient(
            max_message, CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, reconnect_on_failure=False
        )
        paho.connect_timeout = CONNECT_TIMEOUT_S
        paho.max_inflight_messages_set(0)  # unlimited: the caller applies the broker's limit
        paho.on_connect, paho.on_disconnect, paho.on_subscribe = self._on_connect, self._on_disconnect, self._on_subscribe
        paho.on_publish, paho.on_message, paho.on_log = self._on_publish, self._on_paho_message, self._on_log
        paho.on_socket_register_write = lambda *_: self._wake()  # the loop writes to the socket, never the publishing thread
        if will is not None:
            paho.will_set(*will, qos=1, retain=True)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Connect in the background."""
        self._thread.start()

    def publish(self, topic: str, payload: str | bytes, *, qos: int, retain: bool) -> int:
        """Publish to an absolute topic. Returns the message id of its acknowledgement (QoS 1)."""
        self.busy_until = max(time.monotonic(), self.busy_until) + len(payload) / SLOWEST_LINK
        mid = self._paho.publish(topic, payload, qos=qos, retain=retain).mid
        self._wake()
        return mid

    def carried(self, n_left: int) -> None:
        """An acknowledgement arrived, so at most `n_left` bytes that were published are still on the link."""
        self.busy_until = min(self.busy_until, time.monotonic() + n_left / SLOWEST_LINK)

    def subscribe(self, topic: str, *, qos: int = 1, retain_as_published: bool = False) -> int | None:
        """Subscribe. Returns the message id of a possible rejection.

        `retain_as_published` (MQTT 5 only): preserve the retain flag of messages that are published while connected, too.
        """
        self._n_subscribing += 1
        if retain_as_published and self._config.protocol == "5":
            mid = self._paho.subscribe(topic, options=SubscribeOptions(qos=qos, retainAsPublished=True))[1]
        else:
            mid = self._paho.subscribe(topic, qos=qos)[1]
        self._wake()
        return mid

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe."""
        self._paho.unsubscribe(topic)
        self._wake()

    def disconnect(self, timeout_s: float = 1.0) -> None:
        """Disconnect cleanly, so that the broker does not publish the last will. Waits for at most `timeout_s`."""
        self._closing = True
        self._paho.disconnect()
        self._wake()
        self._thread.join(timeout_s)
        self.abort("closed")

    def abort(self, reason: str) -> None:
        """Drop the connection without a DISCONNECT, so that the broker publishes the last will."""
        self._end = self._end or reason
        self._wake()

    def advanced(self) -> int:
        """A number for a watchdog. It changes at least once a second, except while a connection is being established."""
        return self._n_loops if self._thread.is_alive() else time.monotonic_ns()

    def _wake(self) -> None:
        with suppress(OSError):  # already woken, or closed
            self._wake_sender.send(b"\0")

    def _run(self) -> None:
        reason = "ended unexpectedly"
        try:
            self._connect()
            while self._end is None:
                self._loop()
                self._n_loops += 1
            reason = self._end
        except SinkError as error:
            reason = str(error)
        except Exception as error:
            log.exception("mqtt: unexpected error in the connection")
            reason = f"failed on an unexpected error: {error}"
        finally:
            with suppress(Exception):  # nothing may prevent the last signal
                if (sock := self._paho.socket()) is not None:
                    sock.close()
            self._on_signal(Disconnected(reason=reason, by_broker=self._by_broker))
            self._wake_receiver.close()
            self._wake_sender.close()

    def _connect(self) -> None:
        """Resolve the host name, connect, do the TLS handshake and send CONNECT."""
        if self._config.tls is not None:
            self._paho.tls_set_context(tls_context(self._config.tls))
        if self._config.user is not None:
            self._paho.username_pw_set(self._config.user, password(self._config))
        limits = _limits(self._max_message) if self._config.protocol == "5" else None
        try:
            self._paho.connect(self._config.host, self._config.port, self._config.keepalive_s, properties=limits)
        except (OSError, ValueError) as error:
            raise SinkError(connect_error_text(error)) from error
        self._login_by = time.monotonic() + CONNECT_TIMEOUT_S

    def _loop(self) -> None:
        """Send and receive what is pending. Waits for up to a second."""
        sock: Any = self._paho.socket()
        if sock is None:
            self._end = self._end or "closed the connection"
            return
        is_flooded = self._is_flooded()
        decrypted = hasattr(sock, "pending") and sock.pending() > 0 and not is_flooded
        readers = [self._wake_receiver] if is_flooded else [sock, self._wake_receiver]
        writers = [sock] if self._paho.want_write() else []
        timeout_s = 0.0 if decrypted else 0.1 if is_flooded else 1.0
        readable, writable, _ = select.select(readers, writers, [], timeout_s)
        if self._wake_receiver in readable:
            self._wake_receiver.recv(4096)
        if decrypted or sock in readable:
            self._read()
        if sock in writable:
            self._paho.loop_write()
        now = time.monotonic()
        if now > self.busy_until:  # on a slow link, the reply to a ping is queued behind a large message
            self._paho.loop_misc()
        if not self._accepted and self._end is None and now > self._login_by:
            self._end = f"did not answer as a broker within {CONNECT_TIMEOUT_S:.0f} s"

    def _is_flooded(self) -> bool:
        """Whether to read nothing now: packets are too many or too costly, or the broker does not read the replies to them."""
        if self._second != (second := int(time.monotonic())):
            self._second, self._n_read = second, 0
        if not self._paho.want_write():
            self._n_unanswered = 0
        is_resting = time.monotonic() < self._rest_until
        return is_resting or self._n_read >= self._max_packets or self._n_unanswered >= MAX_UNANSWERED

    def _read(self) -> None:
        """Let paho process what has arrived, usually one packet."""
        packets = self._paho.packets
        n_packets, n_bytes = packets.n_packets, packets.n_bytes
        began_s = time.thread_time()
        try:
            self._paho.loop_read()
        except BadPacket as error:
            self._end = str(error)
        except Exception as error:  # whatever paho raises on a packet that it cannot decode
            self._end = f"sent a packet that cannot be read ({error!r})"
            log.debug("mqtt: malformed packet", exc_info=True)
        if (cost_s := time.thread_time() - began_s) > COSTLY_S:  # such as thousands of user properties
            self._rest_until = time.monotonic() + min(REST * cost_s, MAX_REST_S)
        self._n_read += packets.n_packets - n_packets
        self._n_unanswered += packets.n_packets - n_packets
        if packets.n_bytes > n_bytes and packets.n_packets == n_packets:  # a large packet, behind which replies wait
            self.busy_until = max(self.busy_until, time.monotonic() + 1.0)

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._end = f"refused the connection: {reason}"
            return
        if self._accepted:
            raise BadPacket("sent a second CONNACK packet")
        self._accepted = True
        for name, lack in _LACKS.items():
            if getattr(properties, name, 1) == 0:
                self._end = f"does not support {lack}"
                return
        max_in_flight = max(1, min(MAX_IN_FLIGHT, getattr(properties, "ReceiveMaximum", MAX_IN_FLIGHT)))
        self._on_signal(Connected(max_in_flight=max_in_flight, max_packet=getattr(properties, "MaximumPacketSize", None)))

    def _on_disconnect(
        self, _client: Client, _data: Any, flags: DisconnectFlags, reason: ReasonCode, _: Properties | None
    ) -> None:
        if self._end is None:
            self._by_broker = self._accepted and not self._closing and str(reason) != KEEPALIVE_TIMEOUT
            self._end = self._disconnect_reason(str(reason), by_broker=flags.is_disconnect_packet_from_server)

    def _disconnect_reason(self, reason: str, *, by_broker: bool) -> str:
        if self._closing:
            return "closed"
        if (meaning := alert(self._error_text or "")) is not None:
            return f"refused TLS: {meaning}"
        if reason == KEEPALIVE_TIMEOUT:
            return f"stopped answering (for {self._config.keepalive_s} s or longer)"
        if reason == "Protocol error":
            return (
                "sent a packet that breaks the protocol (mosquitto 2.0 does this when a message exceeds its message_size_limit, "
                "see mqtt.max_payload_kb)"
            )
        if by_broker:
            return f"closed the connection: {reason}"
        if not self._accepted:
            return f"closed the connection before it answered: {self._login_hint()}"
        says_more = self._error_text is not None and not any(word in self._error_text for word in _CLOSED)
        error = f": {self._error_text}" if says_more else ""
        return (
            f"closed the connection{error} (is it stopping, is another client called {self._client_id}, "
            "or was a message too large for it, see mqtt.max_payload_kb?)"
        )

    def _login_hint(self) -> str:
        """The likely reason why a broker closes the connection upon the first message."""
        if self._config.tls is None:
            return "it may require TLS (mqtt.tls), or not be a broker"
        if self._config.tls.certificate is None:
            return "it may require a client certificate (mqtt.tls.certificate and key)"
        return "it may have rejected our certificate (mqtt.tls.certificate)"

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _: Properties) -> None:
        self._on_signal(Acknowledged(mid=mid, refusal=str(reason) if reason.is_failure else None))

    def _on_subscribe(
        self, _client: Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if self._n_subscribing > 0:
            self._n_subscribing -= 1
            if (refusal := next((str(reason) for reason in reasons if reason.is_failure), None)) is not None:
                self._on_signal(Acknowledged(mid=mid, refusal=refusal))

    def _on_paho_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        with suppress(UnicodeDecodeError):  # from the topic, which then is none of ours
            self._on_message(
                Received(
                    topic=message.topic,
                    payload=bytes(message.payload),
                    retained=message.retain,
                    n_discarded=self._paho.packets.n_discarded,
                )
            )

    def _on_log(self, _client: Client, _data: Any, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._error_text = text


_CLOSED = ("reset by peer", "Broken pipe")  # errors that say no more than that the connection was closed
# Capabilities that a broker of MQTT 5 may lack, by the property that states it.
_LACKS = {
    "MaximumQoS": "QoS 1, with which events are sent (mosquitto: max_qos)",
    "RetainAvailable": "retained messages, which state, status and others are (mosquitto: retain_available)",
}


class _BoundedClient(Client):
    """A client of paho that receives only packets which PacketReader has read completely."""

    def __init__(self, max_message: int, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.packets = PacketReader(super()._sock_recv, max_bytes=max_message)
        self._packet = b""

    def _sock_recv(self, bufsize: int) -> bytes:  # private in paho, which requests the header, then all that remains of a packet
        if not self._packet:
            self._packet = self.packets.read()
        data, self._packet = self._packet[:bufsize], self._packet[bufsize:]
        return data


def _limits(max_message: int) -> Properties:
    """The limits that an MQTT 5 broker must respect."""
    limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    limits.MaximumPacketSize = max_message
    return limits
