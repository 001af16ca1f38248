"""What waits to be published: first what lasts, then events, then what passes."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from monitor.mqtt.outbox import Row

MAX_PASSING = 100


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A message that is to leave: an event (`row`), what a retained topic reads at present (`lasts`), or one that passes."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    row: Row | None = None
    lasts: bool = False

    @property
    def key(self) -> str | int:
        """What stays the same when it is sent again."""
        return self.topic if self.row is None else self.row.row

    @property
    def n_bytes(self) -> int:
        """Length of the packet, with MQTT 5's empty properties: what a broker's limit is about."""
        rest = 2 + len(self.topic.encode()) + 2 + 1 + len(self.payload)
        return 1 + (rest.bit_length() + 6) // 7 + rest


class Pending:
    """Filled by any thread, emptied by the connection's. Topics are absolute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for an instant only
        self._present: dict[str, bytes] = {}
        self._to_say: dict[str, None] = {}  # the topics of `_present` that changed, in order
        self._rows: deque[tuple[str, Row]] = deque()
        self._passing: deque[Parcel] = deque(maxlen=MAX_PASSING)

    def present(self, topic: str, payload: bytes) -> None:
        """What a retained topic reads from now on; nothing removes it."""
        with self._lock:
            self._present[topic] = payload
            self._to_say.setdefault(topic)

    def events(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Events, by topic, in their order."""
        with self._lock:
            self._rows.extend(rows)

    def passing(self, parcel: Parcel) -> None:
        """One that is lost where too many wait."""
        with self._lock:
            self._passing.append(parcel)

    def begin(self) -> None:
        """A new connection: everything that lasts is to be said, and events come anew."""
        with self._lock:
            self._to_say = dict.fromkeys(self._present)
            self._rows.clear()
            self._passing.clear()

    def take(self, under_way: set[str], allow: Callable[[Parcel], bool]) -> Parcel | None:
        """The next one, unless it is not allowed yet; a topic that lasts waits until its last message is answered."""
        with self._lock:
            topic = next((topic for topic in self._to_say if topic not in under_way), None)
            if topic is not None:
                parcel = Parcel(topic=topic, payload=self._present[topic], retain=True, lasts=True)
            elif self._rows:
                where, row = self._rows[0]
                parcel = Parcel(topic=where, payload=row.payload.encode(), row=row)
            elif self._passing:
                parcel = self._passing[0]
            else:
                return None
            if not allow(parcel):
                return None
            if topic is not None:
                del self._to_say[topic]
            else:
                (self._rows if parcel.row is not None else self._passing).popleft()
        return parcel

    def again(self, topic: str) -> None:
        """Say what lasts once more."""
        with self._lock:
            if topic in self._present:
                self._to_say.setdefault(topic)

    def said(self, topic: str) -> None:
        """The broker has answered: what is removed is forgotten."""
        with self._lock:
            if self._present.get(topic) == b"" and topic not in self._to_say:
                del self._present[topic]

    @property
    def withdrawing(self) -> set[str]:
        """The topics that are to be removed, and of which the broker has not acknowledged it yet."""
        with self._lock:
            return {topic for topic, payload in self._present.items() if not payload}

    def __bool__(self) -> bool:
        return bool(self._to_say or self._rows or self._passing)
