"""Messages on their way to the broker: waiting, and in flight until it acknowledges them."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

MAX_TRANSIENT = 100


@dataclass(frozen=True, kw_only=True)
class OutgoingMessage:
    """The value of a retained topic, an event of the outbox (`row`), one that is resent from memory, or one that is not."""

    topic: str
    payload: bytes
    kind: Literal["retained", "event", "ordered", "transient"]
    qos: int = 1
    retain: bool = False
    row: int = 0

    @property
    def packet_bytes(self) -> int:
        """Length of the packet, with MQTT 5's empty properties; this is what a broker's limit refers to."""
        rest = 2 + len(self.topic.encode()) + 2 + 1 + len(self.payload)
        return 1 + (rest.bit_length() + 6) // 7 + rest


class SendQueue:
    """Filled by any thread, emptied by one; the lock is held for an instant only. Topics are absolute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._retained: dict[str, bytes] = {}
        self._unpublished: dict[str, None] = {}  # the topics of `_retained` that changed, in order
        self._ordered: deque[OutgoingMessage] = deque()
        self._transient: deque[OutgoingMessage] = deque(maxlen=MAX_TRANSIENT)
        self._taken: OutgoingMessage | None = None  # neither waiting nor in flight
        self.in_flight: dict[int, OutgoingMessage] = {}  # of QoS 1, by message id; changed by the emptying thread only

    def set_retained(self, topic: str, payload: bytes) -> None:
        """The value of a retained topic from now on; an empty one removes the topic."""
        with self._lock:
            self._retained[topic] = payload
            self._unpublished.setdefault(topic)

    def add(self, message: OutgoingMessage) -> None:
        """Append an ordered message, or a transient one; of those the oldest is dropped where too many wait."""
        with self._lock:
            (self._ordered if message.kind == "ordered" else self._transient).append(message)

    def take(self, event: OutgoingMessage | None) -> OutgoingMessage | None:
        """The next message: retained topics first, then ordered messages, then `event`, then transient ones.

        A retained topic waits until its last value is acknowledged. `sent` has to follow.
        """
        in_flight = {message.topic for message in self.in_flight.values()}
        with self._lock:
            if (topic := next((topic for topic in self._unpublished if topic not in in_flight), None)) is not None:
                del self._unpublished[topic]
                self._taken = OutgoingMessage(topic=topic, payload=self._retained[topic], kind="retained", retain=True)
            elif self._ordered:
                self._taken = self._ordered.popleft()
            else:
                self._taken = event or (self._transient.popleft() if self._transient else None)
            return self._taken

    def sent(self, mid: int | None) -> None:
        """The message that was taken is in flight under this id; None: nobody will acknowledge it."""
        with self._lock:
            if self._taken is not None and mid is not None:
                self.in_flight[mid] = self._taken
            self._taken = None

    def acknowledged(self, mid: int) -> OutgoingMessage | None:
        """The message that was in flight under this id."""
        with self._lock:
            message = self.in_flight.pop(mid, None)
            if message is not None and message.topic not in self._unpublished and self._retained.get(message.topic) == b"":
                del self._retained[message.topic]
            return message

    def connected(self) -> None:
        """All retained topics have to be published."""
        with self._lock:
            self._unpublished = dict.fromkeys(self._retained)
            self._transient.clear()

    def disconnected(self) -> None:
        """Nothing that is in flight will be acknowledged any more; ordered messages are sent again."""
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
        """Ordered messages that the broker has not acknowledged."""
        with self._lock:
            others = [*self.in_flight.values(), *([self._taken] if self._taken is not None else [])]
            return len(self._ordered) + sum(message.kind == "ordered" for message in others)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits or is in flight."""
        with self._lock:
            return not (self._unpublished or self._ordered or self._transient or self._taken or self.in_flight)
