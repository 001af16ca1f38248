"""The courier: everything that leaves over MQTT. No call blocks, waits for the network or the disk, or raises."""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from monitor.config import MqttConfig
from monitor.errors import SinkError
from monitor.events.event import Event
from monitor.mqtt.connection import Connection
from monitor.mqtt.keeper import Keeper
from monitor.mqtt.outbox import Limits, Row
from monitor.mqtt.oversize import Doubts
from monitor.mqtt.pending import Parcel, Pending
from monitor.mqtt.session import TOO_LARGE, Acknowledged, Received, Session

log = logging.getLogger(__name__)
COMMAND = re.compile(r"([a-z0-9_-]{1,64})/set/([a-z0-9_-]{1,64})")
OnCommand = Callable[[str, str, bytes, bool], None]
Listen = Mapping[str, Callable[[Received], None]]


@dataclass(frozen=True, kw_only=True)
class CourierCounts:
    """How delivery goes; counted since the start."""

    connected: bool
    queued: int  # events that the broker has not acknowledged yet
    delivered: int  # events that it has
    dropped: int  # events lost for lack of room, or too large for the broker
    commit_ms_p99: float | None  # from the decision to the commit, of the last 1,000 events
    connections: int
    last_error: str | None  # why there is no connection
    outbox_error: str | None  # why events are in memory only


class Courier:
    """Events go through the outbox; of each retained topic the latest counts; the rest passes while there is a connection.

    Topics are relative to `<prefix>/<node>/`, or absolute after a `/`.
    """

    def __init__(
        self,
        mqtt: MqttConfig,
        *,
        node: str,
        state_dir: Path,
        on_command: OnCommand | None = None,
        listen: Listen | None = None,
        clock_synced: bool = False,
    ) -> None:
        """`on_command` gets machine, command, payload and whether it was retained, on the connection's thread.

        `listen`: what else to subscribe to, by absolute topic, and whom to call on that thread.
        """
        self._on_command = on_command
        self._listen = listen or {}
        self._lock = threading.Lock()  # held for an instant only
        self._pending = Pending()
        self._epoch = 0
        self._session: Session | None = None  # while it is connected
        self._under_way: dict[int, Parcel] = {}  # of QoS 1, by token
        self._asked: dict[int | None, str] = {}  # what we have asked to hear, by token
        self._doubts = Doubts()
        self._refused: set[str] = set()
        limits = Limits(messages=mqtt.outbox_messages, n_bytes=int(mqtt.outbox_mb * 1e6))
        self._keeper = Keeper(state_dir / "outbox.sqlite", limits, clock_synced=clock_synced, hand_over=self._hand_over)
        self._connection = Connection(mqtt, node=node, traffic=self)

    def start(self) -> None:
        """Open the outbox, end what an earlier run left open, connect; all of it on other threads."""
        self._keeper.start()
        self._connection.start()

    def event(self, event: Event) -> None:
        """Store, then send until acknowledged."""
        with self._lock:
            self._keeper.put(event)

    def present(self, topic: str, payload: str | bytes) -> None:
        """Retained: say it now and after every connection, until something else is said."""
        self._pending.present(self._absolute(topic), _bytes(payload))
        self._connection.wake()

    def withdraw(self, topic: str) -> None:
        """Remove what is retained, and say it no more."""
        self.present(topic, b"")

    @property
    def withdrawing(self) -> set[str]:
        """The absolute topics that are to be removed, and of which the broker has not acknowledged it yet."""
        return self._pending.withdrawing

    def passing(self, topic: str, payload: str | bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Say once, if there is a connection."""
        if self._epoch:
            parcel = Parcel(topic=self._absolute(topic), payload=_bytes(payload), qos=qos, retain=retain)
            self._pending.passing(parcel)
            self._connection.wake()

    def clock_corrected(self, offset_s: float, *, synced: bool = True) -> None:
        """The clock was `offset_s` behind: shift the times of this run's events with `clock_synced` false.

        They become true when the clock can be believed (`synced`). An event that may already have been heard stays as it
        is: two messages with one (id, seq) must not differ. Nothing is held back until the clock is set.
        """
        self._keeper.correct(offset_s, synced=synced)

    def stop(self, timeout_s: float) -> int:
        """Deliver what can be delivered in that time, say `offline`, end; returns how many events stay in the outbox."""
        deadline = time.monotonic() + timeout_s
        while self._connection.is_connected and self._is_busy() and time.monotonic() < deadline - timeout_s / 4:
            time.sleep(0.02)
        self._connection.close(timeout_s=max(0.1, (deadline - time.monotonic()) / 2))
        self._keeper.stop(max(0.1, deadline - time.monotonic()))
        return self._keeper.n_queued

    @property
    def counts(self) -> CourierCounts:
        """For health."""
        return CourierCounts(
            connected=self._connection.is_connected,
            queued=self._keeper.n_queued,
            delivered=self._keeper.n_delivered,
            dropped=self._keeper.n_dropped,
            commit_ms_p99=self._keeper.commit_ms_p99,
            connections=self._connection.n_connections,
            last_error=self._connection.problem,
            outbox_error=self._keeper.trouble,
        )

    def connected(self, session: Session) -> None:
        """Traffic: the present first, then the outbox from its oldest event on."""
        commands = f"{self._connection.base}/+/set/+"
        self._asked = {session.subscribe(topic): topic for topic in self._listen}
        if self._on_command is not None:
            self._asked[session.subscribe(commands, as_published=True)] = commands
        with self._lock:
            self._pending.begin()
            self._epoch = self._connection.n_connections
        self._session = session
        self._doubts.begin(time.monotonic())
        self._keeper.connected(self._epoch)

    def turn(self, session: Session) -> None:
        """Traffic: publish what waits."""
        while (parcel := self._next(session)) is not None:
            if self._doubts.is_too_large(parcel, max_packet=session.max_packet):
                self._leave_out(parcel)
                if not parcel.lasts:
                    continue
                parcel = replace(parcel, payload=b"")  # so that what was retained before does not stay
            token = session.publish(parcel.topic, parcel.payload, qos=parcel.qos, retain=parcel.retain)
            if parcel.qos:
                self._under_way[token] = parcel
                self._doubts.sent(time.monotonic())

    def acknowledged(self, answer: Acknowledged) -> None:
        """Traffic: forget it. An event that the broker refuses, but for its size, stays for the next connection."""
        parcel = self._under_way.pop(answer.token, None)
        if parcel is None:
            if answer.refusal is not None and answer.token in self._asked:
                self._tell_refusal(f"to let us hear {self._asked[answer.token]}", answer.refusal)
            return
        is_too_large = answer.refusal == TOO_LARGE
        self._doubts.answered(parcel, is_too_large=is_too_large, now=time.monotonic())
        if is_too_large and parcel.lasts:
            self._pending.again(parcel.topic)
        elif is_too_large:
            self._leave_out(parcel)
        elif parcel.row is None:
            if answer.refusal is not None:
                self._tell_refusal(parcel.topic, answer.refusal)
            self._pending.said(parcel.topic)
        elif answer.refusal is not None:
            raise SinkError(f"refuses {parcel.row.machine}/event: {answer.refusal}")
        else:
            self._keeper.acknowledged(parcel.row.row)

    def received(self, message: Received) -> None:
        """Traffic: a command, or what else is listened to."""
        if message.topic in self._listen:
            self._listen[message.topic](message)
            return
        found = COMMAND.fullmatch(message.topic.removeprefix(f"{self._connection.base}/"))
        if found is not None and self._on_command is not None:
            self._on_command(found[1], found[2], message.payload, message.retained)

    def lost(self) -> None:
        """Traffic: whatever is under way will be sent again, unless it is proven to be what ends connections."""
        session, self._session, self._epoch = self._session, None, 0
        if session is not None:
            under_way, n_under_way = list(self._under_way.values()), session.unacknowledged
            guilty = self._doubts.end(under_way, hung_up=session.hung_up, n_under_way=n_under_way, now=time.monotonic())
            if guilty is not None:
                self._leave_out(guilty)
        self._under_way.clear()
        self._keeper.connected(0)

    def _next(self, session: Session) -> Parcel | None:
        n_under_way, now = session.unacknowledged, time.monotonic()
        topics = {parcel.topic for parcel in self._under_way.values()}
        return self._pending.take(topics, lambda parcel: self._doubts.allow(parcel, n_under_way=n_under_way, now=now))

    def _leave_out(self, parcel: Parcel) -> None:
        """The broker takes no messages of this size."""
        what = f"{parcel.topic}: {parcel.n_bytes} bytes are more than the broker takes"
        if parcel.row is not None:
            event = json.loads(parcel.payload)
            log.error("mqtt: %s; dropped: %s %s, seq %d", what, event["event_type"], event["id"], event["seq"])
            self._keeper.set_aside(parcel.row.row)
        elif parcel.topic not in self._refused:
            log.error("mqtt: %s; left out", what)
            self._refused.add(parcel.topic)

    def _hand_over(self, epoch: int, rows: list[Row]) -> None:
        """Take rows from the outbox's thread, unless they are meant for an older connection."""
        with self._lock:
            if epoch == self._epoch:
                self._pending.events((self._absolute(f"{row.machine}/event"), row) for row in rows)
        self._connection.wake()

    def _tell_refusal(self, what: str, why: str) -> None:
        """Once for each."""
        if what not in self._refused:
            log.warning("mqtt: %s refuses %s: %s", self._connection.where, what, why)
            self._refused.add(what)

    def _is_busy(self) -> bool:
        return bool(not self._keeper.is_open or self._keeper.n_queued or self._pending or self._under_way)

    def _absolute(self, topic: str) -> str:
        return topic[1:] if topic.startswith("/") else f"{self._connection.base}/{topic}"


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload
