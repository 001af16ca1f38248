"""A real mosquitto on a free loopback port, and mosquitto_sub as a subscriber that shares no code with us."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import need


def find_mosquitto() -> str:
    found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    need(found is not None and shutil.which("mosquitto_sub") is not None, "mosquitto and mosquitto_sub")
    assert found is not None
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Broker:
    """One that can be killed and started again on the same port."""

    folder: Path
    port: int = field(default_factory=free_port)
    settings: str = "allow_anonymous true\n"
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nuser root\n{self.settings}")
        self._process = subprocess.Popen([find_mosquitto(), "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("mosquitto did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def running_broker(folder: Path, settings: str = "allow_anonymous true\n") -> Iterator[Broker]:
    broker = Broker(folder, settings=settings)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


@dataclass(frozen=True)
class Message:
    topic: str
    payload: str
    qos: int
    retained: bool


class Subscriber:
    """mosquitto_sub on every topic, QoS 1, from before `with` until its end."""

    def __init__(self, broker: Broker) -> None:
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-t", "#", "-F", "%q %r %t %p"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Subscriber":
        time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.3)
        self._process.terminate()
        text, _stderr = self._process.communicate()
        self.messages = []
        for line in text.splitlines():
            qos, retained, topic, payload = line.split(" ", 3)
            self.messages.append(Message(topic, payload, int(qos), retained == "1"))

    def on(self, topic: str) -> list[str]:
        return [message.payload for message in self.messages if message.topic == topic]


def retained(broker: Broker) -> dict[str, str]:
    """What the broker keeps, topic by topic."""
    with Subscriber(broker) as late:
        pass
    assert all(message.retained for message in late.messages)
    return {message.topic: message.payload for message in late.messages}
