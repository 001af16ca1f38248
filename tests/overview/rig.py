"""A plant of many nodes on one connection, and the real overview in a process of its own."""

import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from benchmarks.speed import plant_messages
from monitor.config import MqttConfig
from monitor.mqtt.client import BrokerClient, Connected, Received, Signal
from tests.broker import Broker
from tests.waiting import wait_until
from tests.web.page_process import ADMIN, VIEWER, PageProcess

PREFIX = "stethos"


class Plant:
    """Publishes the messages of nodes `n-000`, …, each with one machine `fan`, and answers their commands."""

    def __init__(self, broker: Broker, n_nodes: int) -> None:
        self.nodes = [f"n-{number:03d}" for number in range(n_nodes)]
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.n_sent = 0
        self.answers = True
        self.kinds: dict[int, str] = {}  # by the number of the node, instead of those that run() was given
        self._random = random.Random(0)
        self._since = plant_messages.now()
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        config = MqttConfig(port=broker.port)
        self._client = BrokerClient(
            config, client_id="plant", will=None, on_signal=self._on_signal, on_message=self._on_message, max_packets=100_000
        )

    def __enter__(self) -> "Plant":
        self._client.start()
        assert self._connected.wait(10)
        self._client.subscribe(f"{PREFIX}/+/+/set/+")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5)
        self._client.disconnect()

    def send(self, topic: str, payload: str | bytes, *, retain: bool = True) -> None:
        self._client.publish(f"{PREFIX}/{topic}", payload, qos=1, retain=retain)
        self.n_sent += 1

    def births(self) -> "Plant":
        """What a node sends when it connects."""
        for number, node in enumerate(self.nodes):
            self.send(f"{node}/status", "online")
            self.send(f"{node}/info", plant_messages.info({"fan": f"Fan {number}"}, number=number))
            self.send(f"{node}/health", plant_messages.health(self._random))
            self.send(f"{node}/fan/availability", "online")
        return self

    def state(self, node: str, kind: str = "normal", ratio: float | None = 0.5, **more: Any) -> None:
        self.send(f"{node}/fan/state", plant_messages.state(kind, ratio, since=self._since, **more))

    def event(self, node: str, **more: Any) -> None:
        self.send(f"{node}/fan/event", plant_messages.event(node, "fan", **more), retain=False)

    def states(self) -> "Plant":
        """One state of every machine."""
        for node in self.nodes:
            self.state(node, ratio=round(self._random.uniform(0.3, 0.95), 3))
        return self

    def run(self, kinds: Callable[[int], str] = lambda _: "normal") -> "Plant":
        """One state of every machine a second, evenly, until the end."""

        def publish() -> None:
            due = time.monotonic()
            while not self._stopping.is_set():
                for number, node in enumerate(self.nodes):
                    kind = self.kinds.get(number) or kinds(number)
                    low, high = {"alarm": (2.0, 6.0), "warning": (1.1, 2.0)}.get(kind, (0.3, 0.95))
                    self.state(node, kind, round(self._random.uniform(low, high), 3))
                    due += 1.0 / len(self.nodes)
                    if self._stopping.wait(max(0.0, due - time.monotonic())):
                        return

        self._thread = threading.Thread(target=publish, daemon=True)
        self._thread.start()
        return self

    def _on_signal(self, signal: Signal) -> None:
        if isinstance(signal, Connected):
            self._connected.set()

    def _on_message(self, message: Received) -> None:
        key, _, name = message.topic.removeprefix(f"{PREFIX}/").partition("/set/")
        with suppress(ValueError):
            body = json.loads(message.payload)
            self.commands.append((f"{key} {name}", body))
            if self.answers:
                response = {
                    "schema": 1,
                    "ts": plant_messages.now(),
                    "command": name,
                    "accepted": name != "snooze",
                    "result": None,
                }
                response |= {"reason": None if name != "snooze" else "no alarm is open", "request": body.get("request")}
                self.send(f"{key}/response", json.dumps(response), retain=False)


@dataclass
class Overview(PageProcess):
    """`monitor web --fleet`."""

    broker_port: int = 0
    database: str | None = None
    mqtt: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.config = self.folder / "fleet.yaml"
        self.run = self.folder
        fleet = {"port": self.port, "state_dir": "fleet-state", "database": self.database, **self.more}
        self.config.write_text(
            json.dumps({"mqtt": {"port": self.broker_port, "reconnect_min_s": 0.3, **self.mqtt}, "fleet": fleet})
        )

    def command(self, *arguments: str) -> list[str]:
        return super().command("--fleet", *arguments)

    def open(self, *, passwords: bool = True) -> "Overview":
        if passwords:
            for password, option in ((ADMIN, "--set-password"), (VIEWER, "--set-viewer-password")):
                done = self.set_password(password, option)
                assert done.returncode == 0, done.stderr
        self.start()
        return self

    def __enter__(self) -> "Overview":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def fleet(self) -> dict[str, Any]:
        """Everything, as the administrator sees it."""
        if not hasattr(self, "_client"):
            self._client = self.client()
            if self._client.get("api/session").json["needs_password"]:
                self._client.login(ADMIN)
        return dict(self._client.get("api/fleet").json)

    def row(self, key: str) -> dict[str, Any]:
        return dict(self.fleet()["rows"].get(key, {}))

    def cpu_s(self) -> float:
        """Processor time so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def wait_for_kind(self, key: str, kind: str, within_s: float = 20.0) -> dict[str, Any]:
        try:
            wait_until(lambda: self.row(key).get("kind") == kind, within_s)
        except AssertionError as error:
            raise AssertionError(f"{key}: not {kind}, but {self.row(key)}\n{self.log}") from error
        return self.row(key)
