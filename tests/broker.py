"""A real mosquitto on a free loopback port, told things by mosquitto_pub."""

import json
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import need

PERSISTENT = "allow_anonymous true\npersistence true\nautosave_on_changes true\nautosave_interval 1\n"


def find_mosquitto() -> str:
    found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    need(found is not None and shutil.which("mosquitto_sub") is not None, "mosquitto and mosquitto_sub")
    assert found is not None
    return found


def free_port() -> int:
    """A free port that stays free, because the kernel takes those of connections from 32768 on."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


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


@contextmanager
def deaf_broker(folder: Path) -> Iterator[Broker]:
    """One that takes every message and lets nobody subscribe."""
    plugins = list(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))
    need(plugins != [], "mosquitto_dynamic_security.so")
    allowed = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    nobody = {"clients": [], "roles": [], "groups": [{"groupname": "all", "roles": []}], "anonymousGroup": "all"}
    (folder / "security.json").write_text(json.dumps({"defaultACLAccess": allowed, **nobody}))
    plugin = f"plugin {plugins[0]}\nplugin_opt_config_file {folder}/security.json\n"
    with running_broker(folder, f"allow_anonymous true\n{plugin}") as broker:
        yield broker


def tell(broker: Broker, topic: str, payload: str, *options: str) -> bool:
    """mosquitto_pub, QoS 1; False where there is no broker."""
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-t", topic, "-m", payload, *options]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=20).returncode == 0


def say(broker: Broker, topic: str, payload: str, *options: str) -> None:
    """mosquitto_pub, QoS 1."""
    assert tell(broker, topic, payload, *options), f"{topic}: cannot be published"
