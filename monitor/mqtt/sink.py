"""Delivery over MQTT: one worker owns the outbox and hands messages to paho. No call waits for network or disk, or raises."""

import json
import logging
import queue
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from monitor.config import MqttConfig
from monitor.events.event import Event
from monitor.mqtt.client import TOO_LARGE, Acknowledged, BrokerClient, Connected, Disconnected, Received, Signal
from monitor.mqtt.outbox import WINDOW, Limits, Outbox, OutboxRow
from monitor.mqtt.store import Change, Store

log = logging.getLogger(__name__)
COMMAND = re.compile(r"([a-z0-9_-]{1,64})/set/([a-z0-9_-]{1,64})")
MAX_UNCOMMITTED = 1_000  # events in memory while the disk stalls
MAX_TRANSIENT = 100
DELETE_AFTER_S = 2.0  # acknowledged rows are deleted with the next event, after this time at the latest
TURN_S = 1.0
STEADY_S = 10.0  # after a connection that lasted longer the backoff starts anew
OnCommand = Callable[[str, str, bytes, bool], None]
Kind = Literal["retained", "event", "ordered", "transient"]


@dataclass(frozen=True, kw_only=True)
class OutgoingMessage:
    """A message for the broker: the current value of a retained topic, a stored event, one that is resent, or one that is not."""

    topic: str
    payload: bytes
    kind: Kind
    qos: int = 1
    retain: bool = False
    row: int = 0  # of an event

    @property
    def packet_bytes(self) -> int:
        """Length of the packet, with MQTT 5's empty properties; this is what a broker's limit refers to."""
        rest = 2 + len(self.topic.encode()) + 2 + 1 + len(self.payload)
        return 1 + (rest.bit_length() + 6) // 7 + rest


@dataclass(frozen=True, kw_only=True)
class SinkCounts:
    """State of the delivery; counted since the start."""

    connected: bool
    queued: int  # events that the broker has not acknowledged, parked ones included
    parked: int  # events that the broker refused or that are too large, to be tried over the next connection
    last_parked: str | None  # the event and the reason
    delivered: int  # events that the broker has acknowledged
    dropped: int  # events lost for lack of room, or unreadable
    commit_ms_p99: float | None  # from the decision to the commit, of the last 1,000 events
    connections: int
    worker_errors: int  # unexpected exceptions in the worker
    last_error: str | None  # why there is no connection
    outbox_error: str | None  # why events are in memory only


class MqttSink:
    """Events go through the outbox; a retained topic has its latest value; transient messages need a connection.

    Topics are relative to `<prefix>/<node>/`, or absolute after a `/`. `<prefix>/<node>/status` is `online` while connected.
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
        """`on_command` receives machine, command, payload and retain flag, on the connection's thread; it must not block.

        `subscriptions`: further absolute topics, with callbacks for that thread. Without a `state_dir` there is no outbox.
        """
        self.address = f"{mqtt.host}:{mqtt.port}"
        self.heartbeat = 0  # rises at least once a second while the worker is healthy
        self._config = mqtt
        self._base = f"{mqtt.prefix}/{node}"
        self._client_id = mqtt.client_id or f"stethos-{node}"
        self._path = None if state_dir is None else state_dir / "outbox.sqlite"
        self._clock_synced = clock_synced
        self._on_command = on_command
        self._subscriptions = subscriptions or {}
        self._actions: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # for the worker
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="mqtt-sink", daemon=True)

        self._lock = threading.Lock()  # of the messages that wait, held for an instant only
        self._retained: dict[str, bytes] = {}
        self._unpublished: dict[str, None] = {}  # the topics of `_retained` that changed, in order
        self._ordered: deque[OutgoingMessage] = deque()
        self._n_ordered = 0  # not acknowledged
        self._transient: deque[OutgoingMessage] = deque(maxlen=MAX_TRANSIENT)

        self._store: Store | None = None  # the outbox, from here on used by the worker alone
        self._is_open = False
        self._uncommitted: list[tuple[float | None, Change]] = []
        self._outbox: Outbox | None = None  # the one that `_cursor` refers to
        self._cursor = 0  # the last row that was read
        self._rows: deque[OutboxRow] = deque()
        self._delete: list[int] = []
        self._delete_by = float("inf")
        self._commit_ms: deque[float] = deque(maxlen=1_000)
        self._p99: float | None = None
        self._n_accepted = self._n_committed = 0  # events
        self._n_rejected = 0  # events without room in memory
        self._rejected: set[str] = set()  # anomalies whose start had no room
        self._n_delivered = self._n_errors = 0
        self.refusal: str | None = None  # the reason of the first refused message that was to be published in order
        self._last_parked: str | None = None

        self._client: BrokerClient | None = None
        self._connected = self._said_offline = False
        self._n_connections = 0
        self._problem: str | None = None
        self._log_failures = log_first_failure
        self._limits = Connected(max_in_flight=1, max_packet=None)
        self._in_flight: dict[int, OutgoingMessage] = {}  # of QoS 1, by message id
        self._subscribed: dict[int | None, str] = {}
        self._progress_at = self._connect_at = self._started_at = 0.0
        self._backoff_s = mqtt.reconnect_min_s
        self._too_large: dict[str, bytes] = {}  # retained payloads that the broker found too large
        self._logged: set[str | int] = set()  # topics and rows whose refusal is in the log

    def start(self) -> None:
        """Open the outbox, end the anomalies that an earlier run left open, connect; all of it in the background."""
        self._thread.start()

    def publish(self, event: Event) -> None:
        """Store, then send until acknowledged; from one thread at a time.

        With the memory full, only the `end` of an anomaly whose start was accepted is.
        """
        full = self.n_uncommitted >= MAX_UNCOMMITTED and event.event_type != "end"
        if full or event.id in self._rejected:
            self._n_rejected += 1
            if event.event_type == "start":
                self._rejected.add(event.id)
            elif event.event_type == "end":
                self._rejected.discard(event.id)
            return
        self._n_accepted += 1
        self._request_change(partial(Outbox.add, event=event), time.monotonic())

    def publish_retained(self, topic: str, payload: str | bytes) -> None:
        """Publish now and after every connection, until the topic has another value."""
        with self._lock:
            self._retained[self._absolute(topic)] = _bytes(payload)
            self._unpublished.setdefault(self._absolute(topic))
        self._wake()

    def clear_retained(self, topic: str) -> None:
        """Remove the retained message, also when the broker is away now."""
        self.publish_retained(topic, b"")

    @property
    def topics_being_cleared(self) -> set[str]:
        """The absolute topics whose removal the broker has not acknowledged yet."""
        with self._lock:
            return {topic for topic, payload in self._retained.items() if not payload}

    def publish_transient(self, topic: str, payload: str | bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Publish once, if there is a connection."""
        if self._connected:
            message = OutgoingMessage(
                topic=self._absolute(topic), payload=_bytes(payload), kind="transient", qos=qos, retain=retain
            )
            with self._lock:
                self._transient.append(message)
            self._wake()

    def publish_ordered(self, topic: str, payload: str | bytes, *, retain: bool) -> None:
        """Publish in the order of the calls, from memory, until acknowledged; the caller limits how much waits."""
        message = OutgoingMessage(topic=self._absolute(topic), payload=_bytes(payload), kind="ordered", retain=retain)
        with self._lock:
            self._ordered.append(message)
            self._n_ordered += 1
        self._wake()

    def clock_corrected(self, offset_s: float, *, synced: bool = True) -> None:
        """The clock was `offset_s` behind: shift the times of this run's events with `clock_synced` false.

        They become true when the clock is reliable now (`synced`). An event that may have been received stays as it is: two
        messages with one (id, seq) must not differ. Nothing waits for the clock.
        """
        self._request_change(partial(Outbox.correct, offset_s=offset_s, synced=synced), None)

    def stop(self, timeout_s: float) -> int:
        """Deliver what can be delivered in that time, publish `offline`, end; returns the number of events in the outbox."""
        end = time.monotonic() + timeout_s
        self.wait_for(lambda: self.is_idle or (self._is_open and not self._connected), 0.75 * timeout_s)
        self._deadline = max(time.monotonic() + 0.1, end - 0.1 * timeout_s)
        self._closing.set()
        self._wake()
        self._thread.join(max(0.2, end - time.monotonic()))
        return self._n_queued

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until the worker has made the condition true; False after the timeout, or when the worker has ended."""
        with self._changed:
            return self._changed.wait_for(lambda: condition() or not self.worker_is_alive, timeout_s) and condition()

    @property
    def worker_is_alive(self) -> bool:
        """Whether the worker's thread runs."""
        return self._thread.is_alive()

    def advanced(self) -> int:
        """A counter for a watchdog; it rises at least once a second, but for a disk that blocks the worker."""
        return self.heartbeat

    @property
    def n_uncommitted(self) -> int:
        """Events that are only in memory while the disk takes its time."""
        return self._n_accepted - self._n_committed

    @property
    def n_pending(self) -> int:
        """Ordered messages that the broker has not acknowledged."""
        return self._n_ordered

    @property
    def is_idle(self) -> bool:
        """Whether the outbox is open and everything, but for parked events, is delivered."""
        with self._lock:
            waiting = self._unpublished or self._ordered or self._transient or self._in_flight
            return self._is_open and not waiting and self._n_queued == self._n_parked

    @property
    def counts(self) -> SinkCounts:
        """For `health` and `status`."""
        totals = self._store.outbox.totals if self._store is not None else None
        return SinkCounts(
            connected=self._connected,
            queued=self._n_queued,
            parked=self._n_parked,
            last_parked=self._last_parked if self._n_parked else None,
            delivered=self._n_delivered,
            dropped=self._n_rejected + (totals.n_dropped if totals is not None else 0),
            commit_ms_p99=self._p99,
            connections=self._n_connections,
            worker_errors=self._n_errors,
            last_error=self._problem,
            outbox_error=self._store.error if self._store is not None else None,
        )

    @property
    def _n_parked(self) -> int:
        return len(self._store.outbox.totals.parked) if self._store is not None else 0

    @property
    def _n_queued(self) -> int:
        stored = self._store.outbox.totals.n if self._store is not None else 0
        return max(0, stored + self.n_uncommitted - len(self._delete))

    def _absolute(self, topic: str) -> str:
        return topic[1:] if topic.startswith("/") else f"{self._base}/{topic}"

    def _wake(self) -> None:
        self._actions.put(_nothing)

    def _request_change(self, change: Change, since: float | None) -> None:
        self._actions.put(lambda: self._uncommitted.append((since, change)))

    # The worker. Everything below runs on its thread, but for what is passed to BrokerClient.

    def _run(self) -> None:
        while not self._is_finished():
            self.heartbeat += 1
            is_open = self._path is None or self._store is not None
            for action in self._next_actions():
                self._guarded(action)
            if not self._guarded(self._advance):
                self._closing.wait(TURN_S)
            self._is_open = is_open
            self._notify()
        self._guarded(self._close)
        self._notify()

    def _guarded(self, action: Callable[[], object]) -> bool:
        """No exception ends the worker; False where there was one."""
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
        """Everything that was requested; waits until there is something to do."""
        due = min(self._deadline, self._connect_at if self._client is None else float("inf"))
        try:
            found = [self._actions.get(timeout=max(0.0, min(TURN_S, due - time.monotonic())))]
        except queue.Empty:
            return []
        return found + self._requested()

    def _requested(self) -> list[Callable[[], None]]:
        return [self._actions.get_nowait() for _ in range(self._actions.qsize())]

    def _is_finished(self) -> bool:
        """Whether everything that can be done before the end is done."""
        if not self._closing.is_set():
            return False
        to_do = self._uncommitted or (self._connected and (self._in_flight or not self._said_offline))
        return time.monotonic() > self._deadline or not to_do

    def _advance(self) -> None:
        now = time.monotonic()
        if self._client is None and now >= self._connect_at and not self._closing.is_set():
            self._connect()
        if self._path is not None:
            self._store = self._store or self._open(self._path)
            self._commit(self._store, now)
            self._store.retry_disk()
        if self._connected and self._client is not None:
            self._send(self._client)
            since = max(self._progress_at, self._client.busy_until)
            if self._in_flight and now - since > self._config.keepalive_s:
                self._client.abort(f"left {len(self._in_flight)} messages unacknowledged for {now - since:.0f} s")

    def _close(self) -> None:
        for action in self._requested():
            self._guarded(action)
        if self._client is not None and self._connected:
            self._client.disconnect()
        elif self._client is not None:
            self._client.abort("closed")
        self._connected = False
        if self._store is not None:
            self._delete_by = 0.0
            self._guarded(partial(self._commit, self._store, time.monotonic()))
            self._store.outbox.close()

    # The outbox.

    def _open(self, path: Path) -> Store:
        limits = Limits(messages=self._config.outbox_messages, n_bytes=int(self._config.outbox_mb * 1e6))
        store = Store(path, limits, clock_synced=self._clock_synced)
        self._uncommitted.insert(0, (None, store.end_open))
        return store

    def _commit(self, store: Store, now: float) -> None:
        """Commit what was requested, and delete what was acknowledged a while ago."""
        if not self._uncommitted and now < self._delete_by and len(self._delete) < WINDOW:
            return
        requests, self._uncommitted = self._uncommitted, []
        changes: list[Change] = [partial(Outbox.delete, rows=self._delete), *(change for _, change in requests)]
        try:
            committed = store.change(changes)
        except Exception:  # a change that cannot be applied is lost alone
            applied = [self._guarded(partial(store.change, [change])) for _, change in requests]
            self._n_rejected += sum(since is not None for ok, (since, _) in zip(applied, requests, strict=True) if not ok)
            self._committed(requests)
            raise
        if not committed:  # the file is locked
            self._uncommitted = requests
            return
        self._delete, self._delete_by = [], float("inf")
        self._committed(requests)

    def _committed(self, requests: list[tuple[float | None, Change]]) -> None:
        now = time.monotonic()
        waits_ms = [1_000 * (now - since) for since, _ in requests if since is not None]
        self._n_committed += len(waits_ms)
        self._commit_ms.extend(waits_ms)
        if waits_ms:
            self._p99 = sorted(self._commit_ms)[int(0.99 * (len(self._commit_ms) - 1))]

    def _next_row(self) -> OutboxRow | None:
        store = self._store
        if store is None or self._uncommitted:  # a file that is locked, or not opened yet
            return None
        if store.outbox is not self._outbox:
            self._outbox, self._cursor = store.outbox, 0
            self._rows.clear()
        if not self._rows and (found := store.after(self._cursor, WINDOW)):
            skip = {message.row for message in self._in_flight.values()} | store.outbox.totals.parked | set(self._delete)
            self._cursor = found[-1].row
            self._rows.extend(row for row in found if row.row not in skip)
        return self._rows[0] if self._rows else None

    # The connection.

    def _connect(self) -> None:
        will = (f"{self._base}/status", "offline")
        client = BrokerClient(
            self._config,
            client_id=self._client_id,
            will=will,
            on_signal=lambda signal: self._actions.put(lambda: self._on_signal(client, signal)),
            on_message=self._on_message,
        )
        self._client = client
        self._started_at = time.monotonic()
        client.start()

    def _on_signal(self, client: BrokerClient, signal: Signal) -> None:
        if client is not self._client:
            return
        if isinstance(signal, Connected):
            self._on_connected(client, signal)
        elif isinstance(signal, Acknowledged):
            self._on_acknowledged(signal)
        else:
            self._on_disconnected(signal)

    def _on_connected(self, client: BrokerClient, signal: Connected) -> None:
        """`status` first, then the retained topics, then the outbox from its oldest event on."""
        self._limits = signal
        self._said_offline = False
        self._in_flight = {}
        self._publish_status(client, "online")
        self._subscribed = {client.subscribe(topic): topic for topic in self._subscriptions}
        if self._on_command is not None:
            commands = f"{self._base}/+/set/+"
            self._subscribed[client.subscribe(commands, retain_as_published=True)] = commands
        with self._lock:
            self._unpublished = dict.fromkeys(self._retained)
            self._transient.clear()
        self._outbox = None  # read from its beginning
        if self._store is not None:
            parked = self._store.outbox.totals.parked
            self._logged = {one for one in self._logged if isinstance(one, str) or one in parked}
            self._store.outbox.unpark()
        self._n_connections += 1
        self._connected, self._problem = True, None
        log.info("mqtt: connected to %s", self.address)

    def _publish_status(self, client: BrokerClient, text: str) -> None:
        status = OutgoingMessage(topic=f"{self._base}/status", payload=text.encode(), kind="transient", retain=True)
        self._hand_over(client, status)

    def _on_disconnected(self, signal: Disconnected) -> None:
        """Whatever was in flight will be sent again."""
        now = time.monotonic()
        if signal.reason != self._problem and (self._n_connections or self._log_failures):
            log.warning("mqtt: %s %s; retrying", self.address, signal.reason)
        self._client, self._connected, self._problem = None, False, signal.reason
        with self._lock:
            self._ordered.extendleft(m for m in reversed(self._in_flight.values()) if m.kind == "ordered")
            self._in_flight = {}
        if now - self._started_at > STEADY_S:
            self._backoff_s = self._config.reconnect_min_s
        self._connect_at = now + self._backoff_s * random.uniform(0.5, 1.0)
        self._backoff_s = min(2 * self._backoff_s, self._config.reconnect_max_s)

    def _on_message(self, message: Received) -> None:
        """On the connection's thread."""
        self._guarded(partial(self._dispatch, message))

    def _dispatch(self, message: Received) -> None:
        if message.topic in self._subscriptions:
            self._subscriptions[message.topic](message)
            return
        found = COMMAND.fullmatch(message.topic.removeprefix(f"{self._base}/"))
        if found is not None and self._on_command is not None:
            self._on_command(found[1], found[2], message.payload, message.retained)

    # Messages.

    def _send(self, client: BrokerClient) -> None:
        """Hand over what waits, as far as the broker allows."""
        if self._closing.is_set():
            if not self._said_offline:
                self._said_offline = True
                self._publish_status(client, "offline")
            return
        while len(self._in_flight) < self._limits.max_in_flight:
            row = self._next_row()
            with self._lock:
                if (message := self._take(row)) is None:
                    return
                if (limit := self._violated_limit(message)) is None:
                    self._hand_over(client, message)
                else:
                    self._conclude(message, is_too_large=True)
            if limit is not None:
                self._log_refusal(message, limit)

    def _hand_over(self, client: BrokerClient, message: OutgoingMessage) -> None:
        mid = client.publish(message.topic, message.payload, qos=message.qos, retain=message.retain)
        if message.qos:
            if not self._in_flight:
                self._progress_at = time.monotonic()
            self._in_flight[mid] = message

    def _take(self, row: OutboxRow | None) -> OutgoingMessage | None:
        """The next message. A retained topic waits until its last value is acknowledged."""
        in_flight = {message.topic for message in self._in_flight.values()}
        if (topic := next((topic for topic in self._unpublished if topic not in in_flight), None)) is not None:
            del self._unpublished[topic]
            payload = self._retained[topic]
            if payload == self._too_large.get(topic):
                payload = b""  # so that no outdated value stays
            return OutgoingMessage(topic=topic, payload=payload, kind="retained", retain=True)
        if self._ordered:
            return self._ordered.popleft()
        if row is not None:
            self._rows.popleft()
            topic = self._absolute(f"{row.machine}/event")
            return OutgoingMessage(topic=topic, payload=row.payload.encode(), kind="event", row=row.row)
        return self._transient.popleft() if self._transient else None

    def _violated_limit(self, message: OutgoingMessage) -> str | None:
        n_bytes, max_bytes = len(message.payload), self._config.max_payload_kb * 1_000
        if n_bytes > max_bytes:
            return f"{n_bytes} bytes are more than mqtt.max_payload_kb allows ({max_bytes})"
        max_packet = self._limits.max_packet
        if max_packet is not None and message.packet_bytes > max_packet:
            return f"{message.packet_bytes} bytes are more than the broker accepts ({max_packet})"
        return None

    def _on_acknowledged(self, signal: Acknowledged) -> None:
        with self._lock:
            message = self._in_flight.pop(signal.mid, None)
            if message is not None:
                self._conclude(message, is_too_large=signal.refusal == TOO_LARGE)
        if message is None:
            if signal.refusal is not None and signal.mid in self._subscribed:
                self._log_once(f"subscription to {self._subscribed[signal.mid]}", signal.refusal)
            return
        self._progress_at = time.monotonic()
        if signal.refusal is not None:
            self._log_refusal(message, signal.refusal)
        elif message.kind == "event":
            self._n_delivered += 1
            self._delete.append(message.row)
            self._delete_by = min(self._delete_by, time.monotonic() + DELETE_AFTER_S)

    def _conclude(self, message: OutgoingMessage, *, is_too_large: bool) -> None:
        """Where the broker has answered, or the message is too large to be sent: what is not needed any more is deleted."""
        if message.kind == "ordered":
            self._n_ordered -= 1
        elif message.kind == "retained" and is_too_large and message.payload:
            self._too_large[message.topic] = message.payload
            self._unpublished.setdefault(message.topic)
        elif message.kind == "retained" and self._retained.get(message.topic) == b"" and message.topic not in self._unpublished:
            del self._retained[message.topic]

    def _log_refusal(self, message: OutgoingMessage, reason: str) -> None:
        """Log it, once; park an event."""
        if message.kind == "event" and self._store is not None:
            event = json.loads(message.payload)
            what = f"{event['event_type']} {event['id']} of {event['machine']}, seq {event['seq']}"
            self._store.outbox.park(message.row)
            self._last_parked = f"{what}: {reason}"
            if message.row not in self._logged:
                log.error("mqtt: parked %s until the next connection: %s", what, reason)
                self._logged.add(message.row)
            return
        if message.kind == "ordered":
            self.refusal = self.refusal or reason
        self._log_once(message.topic, reason)

    def _log_once(self, what: str, reason: str) -> None:
        if what not in self._logged:
            log.warning("mqtt: %s rejected by %s: %s", what, self.address, reason)
            self._logged.add(what)


def _nothing() -> None:
    """Wakes the worker."""


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload
