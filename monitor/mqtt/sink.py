"""Delivery over MQTT: a worker thread owns the outbox and passes messages to paho.

No call waits for the network or the disk, or raises.
"""

import json
import logging
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from monitor.config import MqttConfig
from monitor.events.event import Event
from monitor.log_limit import of_kind
from monitor.mqtt.client import Acknowledged, BrokerClient, Connected, Disconnected, Received, Signal
from monitor.mqtt.event_queue import EventQueue
from monitor.mqtt.outbox import Limits, Outbox
from monitor.mqtt.send_queue import OutgoingMessage, SendQueue
from monitor.mqtt.store import Change
from monitor.mqtt.suspects import Suspects
from monitor.threads import Probe

log = logging.getLogger(__name__)
COMMAND = re.compile(r"([a-z0-9_-]{1,64})/set/([a-z0-9_-]{1,64})")
TURN_S = 1.0
MAX_LOGGED = 10_000
STEADY_S = 10.0  # the backoff is reset after a connection that lasted longer
RETRY_S = 600.0  # after which the broker is offered again what it did not accept
MAX_RETRY_S = 6 * 3_600.0  # the interval doubles while the broker closes the connection each time
CLOSES = "the connection was closed each time it was sent"
OnCommand = Callable[[str, str, bytes, bool], None]


@dataclass(frozen=True, kw_only=True)
class SinkCounts:
    """State of the delivery, with counts since the start."""

    connected: bool
    queued: int  # events that the broker has not acknowledged, including parked ones
    parked: int  # events that are too large or that the broker does not accept, to be retried later
    last_parked: str | None  # the event and the reason
    delivered: int  # events that the broker has acknowledged
    dropped: int  # events that were unreadable, or lost for lack of room
    commit_ms_p99: float | None  # from the decision to the commit, over the last 1,000 events
    connections: int
    worker_errors: int  # unexpected exceptions in the worker
    last_error: str | None  # reason why there is no connection
    outbox_error: str | None  # reason why events are in memory only


class MqttSink:
    """Events go through the outbox. A retained topic has its latest value. Transient messages need a connection.

    Topics are relative to `<prefix>/<node>/`, or absolute with a leading `/`. `<prefix>/<node>/status` is `online` while
    connected.
    """

    def __init__(
        self,
        mqtt: MqttConfig,
        *,
        node: str,
        state_dir: Path | None,
        on_command: OnCommand | None = None,
        subscriptions: Mapping[str, Callable[[Received], None]] | None = None,
        clock_synced: bool = False,
        log_first_failure: bool = True,
    ) -> None:
        """`on_command` receives machine, command, payload and retain flag. It runs on the connection's thread and must not block.

        `subscriptions`: further absolute topics, with callbacks on that thread. Without a `state_dir` there is no outbox.
        """
        self.address = mqtt.address
        self.n_refused = 0  # ordered messages that the broker rejected
        self.refusal: str | None = None  # reason of the first of them
        self._config = mqtt
        self._base = f"{mqtt.prefix}/{node}"
        self._client_id = mqtt.client_id or f"stethos-{node}"
        self._on_command = on_command
        self._subscriptions = subscriptions or {}
        self._actions: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # for the worker
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="mqtt-sink", daemon=True)

        self._n_turns = self._n_errors = 0
        self._is_open = False

        self._messages = SendQueue()
        limits = Limits(messages=mqtt.outbox_messages, n_bytes=int(mqtt.outbox_mb * 1e6))
        path = None if state_dir is None else state_dir / "outbox.sqlite"
        self._events = EventQueue(path, limits, clock_synced=clock_synced)
        self._suspects = Suspects()
        self._is_suspicious = False  # whether the broker closed the last connection while messages were in flight
        self._retry_at = float("inf")
        self._retry_s = RETRY_S
        self._last_parked: str | None = None
        self._logged: set[str] = set()  # topics and events whose rejection has been logged

        self._client: BrokerClient | None = None
        self._connected = self._said_offline = False
        self._n_connections = 0
        self._problem: str | None = None
        self._log_failures = log_first_failure
        self._limits = Connected(max_in_flight=1, max_packet=None)
        self._subscribed: dict[int | None, str] = {}
        self._progress_at = self._connect_at = self._started_at = 0.0
        self._backoff_s = mqtt.reconnect_min_s

    def start(self) -> None:
        """Open the outbox, end the anomalies that an earlier run left open, and connect, all in the background."""
        self._thread.start()

    def publish(self, event: Event) -> None:
        """Store an event, then send it until it is acknowledged. Only one thread may call this at a time."""
        if self._events.accept(event):
            self._request(partial(Outbox.add, event=event), since=time.monotonic())

    def publish_retained(self, topic: str, payload: str | bytes) -> None:
        """Publish now and after every reconnect, until the topic gets another value."""
        self._messages.set_retained(self._absolute(topic), _bytes(payload))
        self._actions.put(_wake)

    def clear_retained(self, topic: str) -> None:
        """Remove the retained message, even if the broker is unreachable now."""
        self.publish_retained(topic, b"")

    @property
    def topics_being_cleared(self) -> set[str]:
        """The absolute topics whose removal the broker has not acknowledged yet."""
        return self._messages.topics_being_cleared

    def publish_transient(self, topic: str, payload: str | bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Publish once if there is a connection."""
        if self._connected:
            data = _bytes(payload)
            self._add(OutgoingMessage(topic=self._absolute(topic), payload=data, kind="transient", qos=qos, retain=retain))

    def publish_ordered(self, topic: str, payload: str | bytes, *, retain: bool) -> None:
        """Publish in the order of the calls, from memory, until acknowledged. The caller limits how many wait."""
        self._add(OutgoingMessage(topic=self._absolute(topic), payload=_bytes(payload), kind="ordered", retain=retain))

    def clock_corrected(self, offset_s: float, *, synced: bool = True) -> None:
        """The clock was `offset_s` behind: shift the times of this run's events that have `clock_synced` false.

        If the clock is reliable now (`synced`), `clock_synced` becomes true. An event that may have been received is not changed,
        because two messages with the same (id, seq) must not differ. No event is held back until the clock is set.
        """
        self._request(partial(Outbox.correct, offset_s=offset_s, synced=synced), since=None)

    def stop(self, timeout_s: float) -> int:
        """Deliver as much as possible in that time, publish `offline`, and end. Returns the number of events in the outbox."""
        end = time.monotonic() + timeout_s
        self.wait_for(lambda: self.is_idle or (self._is_open and not self._connected), 0.75 * timeout_s)
        self._deadline = max(time.monotonic() + 0.1, end - 0.1 * timeout_s)
        self._closing.set()
        self._actions.put(_wake)
        self._thread.join(max(0.2, end - time.monotonic()))
        return self._events.n_queued

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until the worker has made the condition true. Returns False on a timeout, or if the worker has ended."""
        with self._changed:
            return self._changed.wait_for(lambda: condition() or not self.worker_is_alive, timeout_s) and condition()

    @property
    def worker_is_alive(self) -> bool:
        """Whether the worker thread is running."""
        return self._thread.is_alive()

    def advanced(self) -> int:
        """A counter for a watchdog.

        It increases at least once a second, unless the disk blocks the worker or every turn fails.
        """
        return self._n_turns

    def connection_advanced(self) -> int:
        """A number for a watchdog of the connection's thread; a clock while there is no such thread.

        It changes at least once a second, except while a connection is being established (DNS, TCP and TLS: up to a minute).
        """
        client = self._client
        return time.monotonic_ns() if client is None else client.advanced()

    def probes(self, *, patience_s: float) -> tuple[Probe, Probe]:
        """The views of both threads, for the watchdog. There is one connection thread at a time, and none between attempts."""
        worker = Probe(
            name="mqtt",
            is_alive=lambda: self.worker_is_alive,
            advanced=self.advanced,
            n_failures=lambda: self._n_errors,
            patience_s=patience_s,
        )
        connection = replace(
            worker, name="mqtt connection", is_alive=lambda: True, advanced=self.connection_advanced, n_failures=lambda: 0
        )
        return worker, connection

    @property
    def n_uncommitted(self) -> int:
        """The number of events that are only in memory because they have not been written to disk yet."""
        return self._events.n_uncommitted

    @property
    def n_pending(self) -> int:
        """The number of ordered messages that the broker has not acknowledged."""
        return self._messages.n_ordered

    @property
    def is_idle(self) -> bool:
        """Whether the outbox is open and everything except parked events is delivered."""
        return self._is_open and self._messages.is_empty and self._events.n_queued == self._events.n_parked

    @property
    def counts(self) -> SinkCounts:
        """The figures for `health` and `status`."""
        events = self._events
        return SinkCounts(
            connected=self._connected,
            queued=events.n_queued,
            parked=events.n_parked,
            last_parked=self._last_parked if events.n_parked else None,
            delivered=events.n_delivered,
            dropped=events.n_dropped,
            commit_ms_p99=events.commit_ms_p99,
            connections=self._n_connections,
            worker_errors=self._n_errors,
            last_error=self._problem,
            outbox_error=events.error,
        )

    def _absolute(self, topic: str) -> str:
        return topic[1:] if topic.startswith("/") else f"{self._base}/{topic}"

    def _add(self, message: OutgoingMessage) -> None:
        self._messages.add(message)
        self._actions.put(_wake)

    def _request(self, change: Change, *, since: float | None) -> None:
        self._actions.put(lambda: self._events.uncommitted.append((since, change)))

    # The worker. Everything below runs on its thread, except the callbacks passed to BrokerClient.

    def _run(self) -> None:
        while not self._is_finished():
            if not self._guarded(self._turn):
                self._closing.wait(TURN_S)
            self._notify()
        self._guarded(self._close)
        self._notify()

    def _turn(self) -> None:
        was_open = self._events.is_open
        for action in self._next_actions():
            self._guarded(action)
        self._advance()
        self._is_open = was_open
        self._n_turns += 1

    def _guarded(self, action: Callable[[], object]) -> bool:
        """Run an action without letting an exception end the worker. Returns False if there was one."""
        try:
            action()
        except Exception:
            self._n_errors += 1
            log.exception("mqtt: unexpected error in the delivery")
            return False
        return True

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _next_actions(self) -> list[Callable[[], None]]:
        """Everything that was requested. Waits until there is something to do."""
        due = min(self._deadline, self._connect_at if self._client is None else float("inf"))
        try:
            found = [self._actions.get(timeout=max(0.0, min(TURN_S, due - time.monotonic())))]
        except queue.Empty:
            return []
        return found + self._requested()

    def _requested(self) -> list[Callable[[], None]]:
        return [self._actions.get_nowait() for _ in range(self._actions.qsize())]

    def _is_finished(self) -> bool:
        """Whether everything that can be done before the end has been done."""
        if not self._closing.is_set():
            return False
        to_do = self._events.uncommitted or (self._connected and (self._messages.in_flight or not self._said_offline))
        return time.monotonic() > self._deadline or not to_do

    def _advance(self) -> None:
        self._events.advance()
        now = time.monotonic()
        if self._client is None and now >= self._connect_at and not self._closing.is_set():
            self._connect()
        if self._connected and self._client is not None:
            with _aborted_on_error(self._client):
                if now >= self._retry_at:
                    self._retry()
                self._send(self._client)
            since = max(self._progress_at, self._client.busy_until)
            if self._messages.in_flight and now - since > self._config.keepalive_s:
                self._client.abort(f"left {len(self._messages.in_flight)} messages unacknowledged for {now - since:.0f} s")

    def _close(self) -> None:
        for action in self._requested():
            self._guarded(action)
        if self._client is not None and self._connected:
            self._client.disconnect()
        elif self._client is not None:
            self._client.abort("closed")
        self._connected = False
        self._guarded(self._events.close)

    # The connection.

    def _connect(self) -> None:
        will = (f"{self._base}/status", "offline")
        self._started_at = time.monotonic()
        try:
            client = BrokerClient(
                self._config,
                client_id=self._client_id,
                will=will,
                on_signal=lambda signal: self._actions.put(lambda: self._on_signal(client, signal)),
                on_message=self._on_message,
            )
            client.start()
        except (OSError, RuntimeError) as error:  # no more sockets or threads
            self._on_disconnected(Disconnected(reason=f"cannot be reached: {error}"))
        else:
            self._client = client

    def _on_signal(self, client: BrokerClient, signal: Signal) -> None:
        if client is not self._client:
            return
        with _aborted_on_error(client):
            if isinstance(signal, Connected):
                self._on_connected(client, signal)
            elif isinstance(signal, Acknowledged):
                self._on_acknowledged(client, signal)
            else:
                self._on_disconnected(signal)

    def _on_connected(self, client: BrokerClient, signal: Connected) -> None:
        """Publish `status` first, then the retained topics, then the outbox, oldest event first."""
        self._limits = signal
        self._said_offline = False
        self._publish_status(client, "online")
        self._subscribed = {client.subscribe(topic): topic for topic in self._subscriptions}
        if self._on_command is not None:
            commands = f"{self._base}/+/set/+"
            self._subscribed[client.subscribe(commands, retain_as_published=True)] = commands
        self._messages.connected()
        self._events.restart()
        if not self._is_suspicious:
            self._retry_s = RETRY_S
            self._retry()
        self._n_connections += 1
        self._connected, self._problem = True, None
        log.info("mqtt: connected to %s", self.address)

    def _publish_status(self, client: BrokerClient, text: str) -> None:
        topic = f"{self._base}/status"
        message = OutgoingMessage(topic=topic, payload=text.encode(), kind="transient", retain=True)
        if topic not in self._suspects.held and self._violated_limit(message) is None:
            self._messages.in_flight[client.publish(topic, text, qos=1, retain=True)] = message
            self._progress_at = time.monotonic()

    def _on_disconnected(self, signal: Disconnected) -> None:
        """Everything that was in flight will be sent again."""
        now = time.monotonic()
        if signal.reason != self._problem and (self._n_connections or self._log_failures):
            log.warning("mqtt: %s %s; retrying", self.address, signal.reason, extra=of_kind("disconnected"))
        self._client, self._connected, self._problem = None, False, signal.reason
        self._is_suspicious = signal.by_broker and bool(self._messages.in_flight)
        if (self._is_suspicious and self._set_aside()) or now - self._started_at > STEADY_S:
            self._backoff_s = self._config.reconnect_min_s
        self._messages.disconnected()
        self._connect_at = now + self._backoff_s * random.uniform(0.5, 1.0)
        self._backoff_s = min(2 * self._backoff_s, self._config.reconnect_max_s)

    def _set_aside(self) -> bool:
        """Whether the connection was closed because of a message, which is then set aside."""
        in_flight = self._messages.in_flight
        if not self._suspects.connection_closed(in_flight.values()):
            return False
        ((mid, message),) = in_flight.items()
        if message.kind == "ordered":
            self._messages.acknowledged(mid)  # it would be sent again
        self._refused(message, CLOSES)
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, MAX_RETRY_S)
        return True

    def _retry(self) -> None:
        """Offer the broker again what it did not accept, because its ACL or its limits may have changed."""
        self._retry_at = float("inf")
        self._suspects.retry()
        self._events.unpark()

    def _on_message(self, message: Received) -> None:
        """Runs on the connection's thread."""
        self._guarded(partial(self._dispatch, message))

    def _dispatch(self, message: Received) -> None:
        if message.n_discarded:
            n_bytes = len(message.payload) + message.n_discarded
            self._log_once(
                "not read", f"a message on {message.topic}", f"was not read completely, because it has {n_bytes} bytes"
            )
        if message.topic in self._subscriptions:
            self._subscriptions[message.topic](message)
            return
        found = COMMAND.fullmatch(message.topic.removeprefix(f"{self._base}/"))
        if found is not None and self._on_command is not None:
            self._on_command(found[1], found[2], message.payload, message.retained)

    # Messages.

    def _send(self, client: BrokerClient) -> None:
        """Publish the waiting messages, as far as the broker's limits allow."""
        if self._closing.is_set():
            if not self._said_offline:
                self._said_offline = True
                self._publish_status(client, "offline")
            return
        messages = self._messages
        while len(messages.in_flight) < (1 if self._suspects else self._limits.max_in_flight):
            if (message := messages.take(self._next_event(), self._suspects.held)) is None:
                if not messages.in_flight:
                    self._suspects.nothing_waits()
                return
            if message.kind == "event":
                self._events.pop()
            payload: bytes | None = message.payload
            if (problem := CLOSES if message.topic in self._suspects.held else self._violated_limit(message)) is not None:
                self._refused(message, problem)
                payload = b"" if self._can_be_cleared(message) else None  # so that no outdated value remains
            if not messages.in_flight:
                self._progress_at = time.monotonic()
            mid = None if payload is None else client.publish(message.topic, payload, qos=message.qos, retain=message.retain)
            messages.sent(mid if message.qos else None)

    def _can_be_cleared(self, message: OutgoingMessage) -> bool:
        return message.kind == "retained" and self._violated_limit(replace(message, payload=b"")) is None

    def _next_event(self) -> OutgoingMessage | None:
        row = self._events.next({message.row for message in self._messages.in_flight.values()})
        if row is None:
            return None
        topic = self._absolute(f"{row.machine}/event")
        return OutgoingMessage(topic=topic, payload=row.payload.encode(), kind="event", row=row.row)

    def _violated_limit(self, message: OutgoingMessage) -> str | None:
        n_bytes, max_bytes = len(message.payload), self._config.max_payload_kb * 1_000
        if n_bytes > max_bytes:
            return f"{n_bytes} bytes are more than mqtt.max_payload_kb allows ({max_bytes})"
        max_packet = self._limits.max_packet
        if max_packet is not None and message.packet_bytes > max_packet:
            return f"{message.packet_bytes} bytes are more than the broker accepts ({max_packet})"
        return None

    def _on_acknowledged(self, client: BrokerClient, signal: Acknowledged) -> None:
        message = self._messages.acknowledged(signal.mid)
        client.carried(sum(len(other.payload) for other in self._messages.in_flight.values()))
        if message is None:
            if signal.refusal is not None and signal.mid in self._subscribed:
                what = f"subscription to {self._subscribed[signal.mid]}"
                self._log_once("subscription", what, f"rejected by {self.address}: {signal.refusal}")
            return
        self._progress_at = time.monotonic()
        self._suspects.acknowledged(message)
        if signal.refusal is not None:
            self._refused(message, signal.refusal)
        elif message.kind == "event":
            self._events.acknowledged(message.row)

    def _refused(self, message: OutgoingMessage, reason: str) -> None:
        """Log a message that the broker does not accept, but only once. Park it if it is an event."""
        what = message.topic
        if message.kind == "event":
            event = json.loads(message.payload)
            what = f"{event['event_type']} {event['id']} of {event['machine']}, seq {event['seq']}"
            self._events.park(message.row)
            self._retry_at = min(self._retry_at, time.monotonic() + self._retry_s)
            self._last_parked = f"{what}: {reason}"
        elif message.kind == "ordered" and not (message.retain and self._violated_limit(message)):  # a picture, usually
            self.n_refused += 1
            self.refusal = self.refusal or reason
        if message.topic in self._suspects.held:
            what = f"everything on {message.topic}"
        later = "; parked, to be sent again later" if message.kind == "event" else ""
        self._log_once(f"rejected {message.kind}", what, f"rejected by {self.address}: {reason}{later}")

    def _log_once(self, kind: str, what: str, problem: str) -> None:
        if what not in self._logged:
            log.warning("mqtt: %s %s", what, problem, extra=of_kind(kind))
            if len(self._logged) >= MAX_LOGGED:
                self._logged.clear()
            self._logged.add(what)


@contextmanager
def _aborted_on_error(client: BrokerClient) -> Iterator[None]:
    """Drop the connection after an unexpected error. The state may be incomplete, and the next connection rebuilds it."""
    try:
        yield
    except Exception as error:
        client.abort(f"was disconnected after an unexpected error: {error}")
        raise


def _wake() -> None:
    """Do nothing. This wakes the worker, which then looks for waiting messages."""


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload
