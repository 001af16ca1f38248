"""mosquitto_sub, a subscriber that shares no code with us, as something to ask while it listens."""

import json
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.broker import Broker, tell
from tests.contract.wire import check
from tests.waiting import wait_until

PICTURES_AND_SOUND = ("+/+/+/snapshot", "+/+/+/+/snapshot", "+/+/+/clip/+")
TEXT_ONLY = [word for topic in PICTURES_AND_SOUND for word in ("-T", topic)]  # for a subscriber that reads lines
MARK = "subscriber/listens"


@dataclass(frozen=True)
class Message:
    """One message and when it came, by the monotonic clock."""

    at: float
    topic: str
    payload: str
    qos: int
    retained: bool

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.payload))


class Subscriber:
    """Hears a topic, QoS 1, used as `with`; what it has heard is held against the contract in the end.

    With a `session` the broker keeps for it what it misses, and it comes back to a broker that was away.
    """

    def __init__(self, broker: Broker, *options: str, topic: str = "#", session: str | None = None) -> None:
        self._broker = broker
        self._options = [*options, *([] if session is None else ["-c", "-i", session, "-k", "5"])]
        self._topics = [word for one in (topic, *([] if topic == "#" else [MARK])) for word in ("-t", one)]
        self._heard: list[Message] = []

    def __enter__(self) -> "Subscriber":
        address = ["-h", "127.0.0.1", "-p", str(self._broker.port)]
        command = [
            "stdbuf",
            "-oL",
            "mosquitto_sub",
            *address,
            "-q",
            "1",
            *self._topics,
            *TEXT_ONLY,
            "-F",
            "%q %r %t %p",
            *self._options,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        wait_until(self._is_listening, what="mosquitto_sub listens")
        return self

    def __exit__(self, *_: object) -> None:
        if tell(self._broker, MARK, "the last"):
            wait_until(lambda: "the last" in [one.payload for one in self._heard if one.topic == MARK], what="the last message")
        self._process.kill()  # mosquitto_sub sometimes waits for ever when it is asked to end
        self._process.wait()
        self._thread.join(5)
        for one in self.messages:
            check(one.topic, one.payload, qos=one.qos, retained=one.retained)

    @property
    def messages(self) -> list[Message]:
        """All so far, in their order."""
        return [one for one in list(self._heard) if one.topic != MARK]

    def on(self, topic: str) -> list[str]:
        """What was said on a topic."""
        return [one.payload for one in self.messages if one.topic == topic]

    def ending(self, end: str, *, since: float = 0.0) -> list[Message]:
        """Messages of the topics that end so."""
        return [one for one in self.messages if one.topic.endswith(end) and one.at >= since]

    def events(self) -> list[dict[str, Any]]:
        """Every event once, by (id, seq), in the order of arrival."""
        seen: dict[tuple[str, int], dict[str, Any]] = {}
        for one in self.ending("/event"):
            seen.setdefault((one.json["id"], one.json["seq"]), one.json)
        return list(seen.values())

    def _is_listening(self) -> bool:
        tell(self._broker, MARK, "the first")
        return any(one.topic == MARK for one in self._heard)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            qos, kept, topic, payload = line.rstrip("\n").split(" ", 3)
            self._heard.append(Message(time.monotonic(), topic, payload, int(qos), kept == "1"))


def retained(broker: Broker) -> dict[str, str]:
    """What the broker keeps, topic by topic: what a subscriber that comes now finds."""
    with Subscriber(broker) as late:
        return {one.topic: one.payload for one in late.messages if one.retained}
