"""Messages to the broker: waiting, then in flight until they are acknowledged."""

import threading
from collections import deque
from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

MAX_TRANSIENT = 100


@dataclass(frozen=True, kw_only=True)
class OutgoingMessage:
    """An outgoing message of one of four kinds.

    `retained` is the value of a retained topic, `event` an event of the outbox (`row`). `ordered` messages are sent again from
    memory after a reconnect, `transient` ones are not.
    """

    topic: str
    payload: bytes
    kind: Literal["retained", "event", "ordered", "transient"]
    qos: int = 1
    retain: bool = False
    row: int = 0

    @property
    def packet_bytes(self) -> int:
        """The length of the packet, with empty MQTT 5 properties, to which the limit of a broker refers."""
        rest = 2 + len(self.topic.encode()) + 2 + 1 + len(self.payload)
        return 1 + (rest.bit_length() + 6) // 7 + rest


class SendQueue:
    """A queue filled by any thread and emptied by one. The lock is never held for long. Topics are absolute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._retained: dict[str, bytes] = {}
        self._unpublished: dict[str, None] = {}  # topics of `_retained` that have changed, in order
        self._ordered: deque[OutgoingMessage] = deque()
        self._transient: deque[OutgoingMessage] = deque(maxlen=MAX_TRANSIENT)
        self._taken: OutgoingMessage | None = None  # taken from the queue, but not in flight yet
        self.in_flight: dict[int, OutgoingMessage] = {}  # QoS 1, by message id; only changed by the thread that empties the queue

    def set_retained(self, topic: str, payload: bytes) -> None:
        """Set the value of a retained topic. An empty value removes the topic."""
        with self._lock:
            self._retained[topic] = payload
            self._unpublished.setdefault(topic)

    def add(self, message: OutgoingMessage) -> None:
        """Append an ordered or a transient message. If too many transient ones wait, the oldest is dropped."""
        with self._lock:
            (self._ordered if message.kind == "ordered" else self._transient).append(message)

    def take(self, event: OutgoingMessage | None, held: Set[str]) -> OutgoingMessage | None:
        """The next message: retained topics first, then ordered messages, then `event`, then transient ones.

        A retained topic waits until its previous value is acknowledged, and while it is in `held`.
        The caller must call `sent` next.
        """
        waiting = {message.topic for message in self.in_flight.values()} | held
        with self._lock:
            if (topic := next((topic for topic in self._unpublished if topic not in waiting), None)) is not None:
                del self._unpublished[topic]
                self._taken = OutgoingMessage(topic=topic, payload=self._retained[topic], kind="retained", retain=True)
            elif self._ordered:
                self._taken = self._ordered.popleft()
            else:
                self._taken = event or (self._transient.popleft() if self._transient else None)
            return self._taken

    def sent(self, mid: int | None) -> None:
        """Mark the message that was taken as in flight under this id. With None, it will not be acknowledged."""
        with self._lock:
            if self._taken is not None and mid is not None:
                self.in_flight[mid] = self._taken
            self._taken = None

    def acknowledged(self, mid: int) -> OutgoingMessage | None:
        """Remove and return the message that was in flight under this id."""
        with self._lock:
            message = self.in_flight.pop(mid, None)
            if message is not None and message.topic not in self._unpublished and self._retained.get(message.topic) == b"":
                del self._retained[message.topic]
            return message

    def connected(self) -> None:
        """Queue all retained topics again after a reconnect, and drop transient messages."""
        with self._lock:
            self._unpublished = dict.fromkeys(self._retained)
            self._transient.clear()

    def disconnected(self) -> None:
        """Drop what is in flight, because it will no longer be acknowledged. Ordered messages are queued again."""
        with self._lock:
            self._ordered.extendleft(message for message in reversed(self.in_flight.values()) if message.kind == "ordered")
            self.in_flight = {}
            self._taken = None

    @property
    def topics_being_cleared(self) -> set[str]:
        """The topics whose removal the broker has not acknowledged yet."""
        with self._lock:
            return {topic for topic, payload in self._retained.items() if not payload}

    @property
    def n_ordered(self) -> int:
        """The number of ordered messages that the broker has not acknowledged."""
        with self._lock:
            others = [*self.in_flight.values(), *([self._taken] if self._taken is not None else [])]
            return len(self._ordered) + sum(message.kind == "ordered" for message in others)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is waiting or in flight."""
        with self._lock:
            return not (self._unpublished or self._ordered or self._transient or self._taken or self.in_flight)
