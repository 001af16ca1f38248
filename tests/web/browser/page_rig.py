"""The real service with recordings in place of microphones, the real page, and a link between page and browser that can break."""

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from monitor.child_process import child_command
from tests.broker import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
BEGINS_S, GROWN_S, REPAIRED_S = 25, 45, 85  # of the demo's recording: 6 s before the fault, when it is grown, when it ends
N_TIMES = 20


def fault_recording(folder: Path) -> None:
    """A quarter of an hour of fault after 6 s of normal sound; the alarm starts about 23 s after the start."""
    samples, rate_hz = soundfile.read(ROOT / "demo" / "fan-bearing.flac", dtype="int16")
    begins, grown, repaired = (at * rate_hz for at in (BEGINS_S, GROWN_S, REPAIRED_S))
    sound = np.concatenate([samples[begins:repaired], *[samples[grown:repaired]] * N_TIMES])
    soundfile.write(folder / "fault.flac", sound, rate_hz, subtype="PCM_16")


@dataclass
class Node:
    """A service and its page, each a process, with two machines: `fan` has a fault, `pump` is well."""

    folder: Path
    broker_port: int | None = None
    name: str = 'Fan <b id="injected">3</b>'
    pump_bundle: Path = ROOT / "models" / "demo-fan"
    has_fan: bool = True
    port: int = field(default_factory=free_port)
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> "Node":
        bundle = str(ROOT / "models" / "demo-fan")
        settings: dict[str, Any] = {
            "node": "workshop",
            "mqtt": None if self.broker_port is None else {"port": self.broker_port},
            "home_assistant": {"enabled": False},
            "state_dir": str(self.folder / "state"),
            "runtime_dir": str(self.folder / "run"),
            "clips": {"max_s": 12},
            "web": {"port": self.port, "state_dir": str(self.folder / "web")},
            "machines": {
                "fan": {"bundle": bundle, "microphone": "name:fan", "name": self.name},
                "pump": {"bundle": str(self.pump_bundle), "microphone": "name:pump", "name": "Pump"},
            },
        }
        if not self.has_fan:
            del settings["machines"]["fan"]
        (self.folder / "monitor.yaml").write_text(yaml.safe_dump(settings))
        fault_recording(self.folder)
        self.start_service()
        self.start_page()
        return self

    def command(self, *words: str) -> None:
        """Run `monitor WORDS…` with the node's configuration."""
        command = [sys.executable, "-m", "monitor.cli.main", *words, "--config", str(self.folder / "monitor.yaml")]
        subprocess.run(command, env=self._environment(), check=True, stdout=subprocess.DEVNULL, timeout=120)

    def start_service(self) -> None:
        plan = {"name:fan": [str(self.folder / "fault.flac")], "name:pump": [str(ROOT / "demo" / "fan-normal.flac")]}
        self._start("service", child_command("monitor.demo.service", str(self.folder / "monitor.yaml"), json.dumps(plan)))

    def stop_service(self) -> None:
        self._stop("service")

    def start_page(self) -> None:
        """Start the page's process, and wait until it knows the machines."""
        self._start("page", [sys.executable, "-m", "monitor.cli.main", "web", "--config", str(self.folder / "monitor.yaml")])
        try:
            wait_until(self._is_up, within_s=120, what="the page")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def stop_page(self) -> None:
        self._stop("page")

    def set_password(self, password: str) -> None:
        """Takes effect when the page is started again."""
        command = [
            sys.executable,
            "-m",
            "monitor.cli.main",
            "web",
            "--config",
            str(self.folder / "monitor.yaml"),
            "--set-password",
        ]
        subprocess.run(command, input=f"{password}\n".encode(), env=self._environment(), check=True, stdout=subprocess.DEVNULL)

    def get(self, path: str) -> Any:
        """The JSON at an address of the page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as answer:
            return json.load(answer)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        for name in [*self._children]:
            self._stop(name)

    def _is_up(self) -> bool:
        gone = [name for name, child in self._children.items() if child.poll() is not None]
        if gone:
            raise AssertionError(f"{', '.join(gone)} ended")
        with suppress(urllib.error.URLError, ConnectionError):
            answer = self.get("api/session")
            return answer["role"] is None or len(self.get("api/machines")["machines"]) == 1 + self.has_fan
        return False

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / "log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=self._environment(), cwd=self.folder
            )

    def _stop(self, name: str) -> None:
        child = self._children.pop(name)
        assert child.stdin is not None
        child.stdin.close()
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Link:
    """A TCP proxy to a port. It can break all connections, and it can swallow the answers to requests of a kind."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []  # the first packet of each
        self.swallow: bytes | None = None  # answers of connections that have sent this are dropped
        self.n_sound_bytes = 0  # of live sound that went to the browser
        self._is_broken = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._is_broken = True
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._is_broken = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                client, _ = self._listener.accept()
                if self._is_broken:
                    client.close()
                    continue
                with suppress(ConnectionError):
                    server = socket.create_connection(("127.0.0.1", self._to_port))
                    pair = (client, server)
                    self._pairs.append(pair)
                    sent: list[bytes] = []
                    threading.Thread(target=self._carry, args=(client, server, sent, True), daemon=True).start()
                    threading.Thread(target=self._carry, args=(server, client, sent, False), daemon=True).start()
                    continue
                client.close()

    def _carry(self, source: socket.socket, target: socket.socket, sent: list[bytes], is_request: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if is_request:
                    self.requests.append(data)
                    sent.append(data)
                elif self.swallow is not None and any(self.swallow in one for one in sent):
                    continue
                elif any(b"/live.pcm" in one for one in sent):
                    self.n_sound_bytes += len(data)
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
