"""A subscriber that can be asked while it listens: mosquitto_sub with a session that survives a broken connection."""

import json
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.broker import TEXT_ONLY, Broker
from tests.contract.wire import check

PERSISTENT = "allow_anonymous true\npersistence true\nautosave_on_changes true\nautosave_interval 1\n"


@dataclass(frozen=True)
class Heard:
    """One message and when it came, by the monotonic clock."""

    at: float
    topic: str
    payload: str
    retained: bool

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.payload))


class Listener:
    """Everything below a prefix, as it comes."""

    def __init__(self, broker: Broker, *, topic: str = "stethos/#", name: str = "listener") -> None:
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-c", "-i", name, "-k", "5"]
        self._process = subprocess.Popen(
            ["stdbuf", "-oL", *command, "-t", topic, *TEXT_ONLY, "-F", "%r %t %p"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.heard: list[Heard] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        time.sleep(0.3)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            retained, topic, payload = line.rstrip("\n").split(" ", 2)
            self.heard.append(Heard(time.monotonic(), topic, payload, retained == "1"))

    def on(self, end: str, *, since: float = 0.0) -> list[Heard]:
        """Messages of the topics that end so."""
        return [one for one in list(self.heard) if one.topic.endswith(end) and one.at >= since]

    def events(self) -> list[dict[str, Any]]:
        """Every event once, by (id, seq), in the order of arrival."""
        seen: dict[tuple[str, int], dict[str, Any]] = {}
        for one in self.on("/event"):
            seen.setdefault((one.json["id"], one.json["seq"]), one.json)
        return list(seen.values())

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join(5)
        for one in self.heard:
            check(one.topic, one.payload, retained=one.retained)
