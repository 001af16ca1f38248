"""A real mosquitto on a free loopback port, and mosquitto_sub as a subscriber that shares no code with us."""

import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import need
from tests.contract.wire import check

PICTURES_AND_SOUND = ("+/+/+/snapshot", "+/+/+/+/snapshot", "+/+/+/clip/+")
TEXT_ONLY = [word for topic in PICTURES_AND_SOUND for word in ("-T", topic)]  # for a subscriber that reads lines


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
    whole: str | None = None  # the configuration with its listener, instead of `settings`
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.folder / "mosquitto.conf"
        config.write_text(self.whole or f"listener {self.port} 127.0.0.1\nuser root\n{self.settings}")
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen([find_mosquitto(), "-c", config], cwd=self.folder, stdout=nowhere, stderr=nowhere)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("mosquitto did not start")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As an administrator does: what is to be persistent is written."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It holds its connections and answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def running_broker(folder: Path, settings: str = "allow_anonymous true\n") -> Iterator[Broker]:
    broker = Broker(folder, settings=settings)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


def say(broker: Broker, topic: str, payload: str, *options: str) -> None:
    """mosquitto_pub, QoS 1."""
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-t", topic, "-m", payload, *options]
    subprocess.run(command, check=True, timeout=20)


@dataclass(frozen=True)
class Message:
    topic: str
    payload: str
    qos: int
    retained: bool


class Subscriber:
    """mosquitto_sub on every topic, QoS 1, from before `with` until its end."""

    def __init__(self, broker: Broker) -> None:
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-t", "#", *TEXT_ONLY]
        command += ["-F", "%q %r %t %p"]
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
            check(topic, payload, qos=int(qos), retained=retained == "1")

    def on(self, topic: str) -> list[str]:
        return [message.payload for message in self.messages if message.topic == topic]


class Watcher:
    """mosquitto_sub on every topic, QoS 1, writing to a file, so that a test can look while it listens; used as `with`."""

    def __init__(self, broker: Broker, *options: str) -> None:
        self._broker = broker
        self._options = options
        self._path = broker.folder / f"watcher-{uuid.uuid4().hex}"

    def __enter__(self) -> "Watcher":
        address = ["-h", "127.0.0.1", "-p", str(self._broker.port)]
        command = ["mosquitto_sub", *address, "-q", "1", "-t", "#", *TEXT_ONLY, "-F", "%q %r %t %p", *self._options]
        with self._path.open("w") as file:
            self._process = subprocess.Popen(command, stdout=file)
        deadline = time.monotonic() + 20
        while not self.on("watcher"):
            assert time.monotonic() < deadline, "mosquitto_sub does not listen"
            say(self._broker, "watcher", "listening")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        for message in self.messages:
            check(message.topic, message.payload, qos=message.qos, retained=message.retained)

    @property
    def messages(self) -> list[Message]:
        found = []
        for line in self._path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                qos, kept, topic, payload = line.rstrip("\n").split(" ", 3)
                found.append(Message(topic, payload, int(qos), kept == "1"))
        return found

    def on(self, topic: str) -> list[str]:
        return [message.payload for message in self.messages if message.topic == topic]


def retained(broker: Broker) -> dict[str, str]:
    """What the broker keeps, topic by topic: what a subscriber that comes now finds."""
    with Watcher(broker) as late:
        return {message.topic: message.payload for message in late.messages if message.retained}
