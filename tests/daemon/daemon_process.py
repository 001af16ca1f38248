"""The real daemon in its own process with its own state, and a socket for its notifications to systemd."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass
class DaemonProcess:
    """`monitor --config FILE` in a folder; what it tells systemd is in `told`."""

    folder: Path
    environment: Mapping[str, str]
    module: str = "monitor.cli.main"
    runs: Path | None = None  # where its runtime directory and log are, if not in that folder
    told: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _notify: socket.socket | None = None

    @property
    def config(self) -> Path:
        return self.folder / "monitor.yaml"

    @property
    def _runs(self) -> Path:
        return self.runs or self.folder

    @property
    def log(self) -> str:
        return (self._runs / "daemon.log").read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> "DaemonProcess":
        self._runs.mkdir(exist_ok=True)
        address = self._runs / "notify"
        address.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(address))
        threading.Thread(target=self._hear, args=(self._notify,), daemon=True).start()
        environment = {**os.environ, **self.environment, "NOTIFY_SOCKET": str(address), "PYTHONPATH": str(ROOT)}
        environment |= {"STATE_DIRECTORY": str(self.folder / "state"), "RUNTIME_DIRECTORY": str(self._runs / "run")}
        for folder in (self.folder / "state", self._runs / "run"):
            folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", self.module, "--config", str(self.config)]
        with (self._runs / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stderr=log, stdout=log, cwd=self.folder)
        return self

    def ready(self, *, within_s: float = 60.0) -> float:
        return wait_until(lambda: "READY=1" in self.told, within_s=within_s, what=f"READY\n{self.log}")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, *, within_s: float = 10.0) -> tuple[int, float]:
        """SIGTERM; the exit status and how long it took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(within_s), time.monotonic() - began

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def statuses(self) -> list[str]:
        """Every STATUS told so far."""
        return [line.removeprefix("STATUS=") for line in self.told if line.startswith("STATUS=")]

    def _hear(self, notify: socket.socket) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                self.told += notify.recv(4096).decode().splitlines()

    def __enter__(self) -> "DaemonProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._notify is not None:
            self._notify.close()
