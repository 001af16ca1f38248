"""Messages upon which the broker closes the connection. They are identified, and set aside for a while, so that others pass.

A broker of MQTT 3.1.1 cannot refuse a message, for example because of an ACL or its size. Some close the connection instead.
"""

from collections import Counter
from collections.abc import Collection

from monitor.mqtt.send_queue import OutgoingMessage

STRIKES = 3
MAX_IN_A_ROW = 3  # events of one topic that are set aside before all of them are

Key = tuple[str, int]


class Suspects:
    """While there are suspects, messages must be sent one at a time, so that a closed connection has one possible cause."""

    def __init__(self) -> None:
        self.held: set[str] = set()  # topics on which nothing is sent until `retry`
        self._strikes: dict[Key, int] = {}  # closed connections by message that was in flight
        self._set_aside: set[Key] = set()
        self._in_a_row: Counter[str] = Counter()  # by topic of events

    def __bool__(self) -> bool:
        return bool(self._strikes)

    def connection_closed(self, in_flight: Collection[OutgoingMessage]) -> bool:
        """The broker closed the connection. Whether the only message in flight is set aside as the cause."""
        for message in in_flight:
            self._strikes[_key(message)] = self._strikes.get(_key(message), 0) + 1
        if len(in_flight) != 1:
            return False
        (message,) = in_flight
        if self._strikes[_key(message)] < STRIKES:
            return False
        del self._strikes[_key(message)]
        self._set_aside.add(_key(message))
        self._in_a_row[message.topic] += 1
        if message.kind != "event" or self._in_a_row[message.topic] >= MAX_IN_A_ROW:
            self.held.add(message.topic)
        return True

    def acknowledged(self, message: OutgoingMessage) -> None:
        """The broker accepted the message, so it and its topic are above suspicion."""
        self._strikes.pop(_key(message), None)
        self._in_a_row.pop(message.topic, None)

    def nothing_waits(self) -> None:
        """Everything was sent, so the messages that are still suspects no longer exist."""
        self._strikes.clear()

    def retry(self) -> None:
        """Everything may be sent again. What was set aside needs one closed connection to be set aside again."""
        self._strikes |= dict.fromkeys(self._set_aside, STRIKES - 1)
        self._set_aside.clear()
        self.held.clear()


def _key(message: OutgoingMessage) -> Key:
    return message.topic, message.row
