"""A repository of releases on a real web server on loopback, and a node that updates from it."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from monitor.bundle import load_bundle
from monitor.config.installed import Installed, read_installed
from train.release.keys import Keys
from train.release.releases import publish
from train.release.repository import Repository, create_repository, open_repository
from train.release.roles import EXPIRES_DAYS, ROLES

ROOT = Path(__file__).parents[2]
MEASURE = """
import resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, file=sys.stderr)
sys.exit(done.returncode)
"""
Fault = Callable[["Handler", bytes], None]  # sends the answer with this content, wrongly


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; `faults` answer for paths that contain a text."""

    faults: dict[str, Fault]

    def do_GET(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        faults: dict[str, Fault] = self.server.faults  # type: ignore[attr-defined]
        fault = next((one for text, one in faults.items() if text in self.path), None)
        if fault is None:
            super().do_GET()
            return
        path = Path(self.translate_path(self.path))
        fault(self, path.read_bytes() if path.is_file() else b"")

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class Server(ThreadingHTTPServer):
    """One that knows what was asked."""

    daemon_threads = True
    faults: dict[str, Fault]
    seen: list[str]


@dataclass
class Plant:
    """A repository with the groups hall-1 and hall-2."""

    folder: Path
    server: Server
    now: datetime | None = None
    keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        own = self.folder.with_name("keys")
        self.keys = Keys([own])
        signers = {name: [self.keys.create(name, own, encrypts=False) for _ in range(1 + (name == "root"))] for name in ROLES}
        thresholds = dict.fromkeys(ROLES, 1)
        with create_repository(
            self.folder, self.keys, signers, thresholds=thresholds, expires_days=EXPIRES_DAYS, now=self.now
        ) as repository:
            for group in ("hall-1", "hall-2"):
                repository.add_group(group, [self.keys.create(group, own, encrypts=False)], threshold=1, expires_days=90)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def root(self) -> Path:
        return self.folder / "metadata" / "1.root.json"

    def open(self) -> Any:
        return open_repository(self.folder, self.keys, now=self.now)

    def release(self, bundle: Path, *machines: str, group: str = "hall-1", **options: Any) -> None:
        with self.open() as repository:
            publish(repository, group, {bundle: machines or ("*/*",)}, **options)

    def change(self, action: Callable[[Repository], object]) -> None:
        with self.open() as repository:
            action(repository)

    def state(self) -> dict[str, bytes]:
        """Every metadata file."""
        return {path.name: path.read_bytes() for path in (self.folder / "metadata").iterdir()}


@contextmanager
def running_plant(folder: Path, *, now: datetime | None = None) -> Iterator[Plant]:
    repository = folder / "plant"
    repository.mkdir(parents=True)
    server = Server(("127.0.0.1", 0), partial(Handler, directory=str(repository)))
    server.faults, server.seen = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Plant(repository, server, now)
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Node:
    """A node `pi` with the machine `fan`, as `monitor update` in a process of its own sees it."""

    folder: Path
    bundle: Path
    url: str | None
    settings: str = "shadow_s: 0, trial_h: 0, timeout_s: 20"

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.configure()

    def configure(self, more: str = "") -> None:
        update = f"update: {{url: {json.dumps(self.url)}, group: hall-1, root: root.json, state_dir: installed, {self.settings}}}"
        machine = f"{{bundle: {self.bundle}, microphone: 'name:mic', microphone_rate_hz: 16000}}"
        lines = [
            "node: pi",
            "state_dir: state",
            "runtime_dir: run",
            update,
            more or "mqtt: null",
            f"machines: {{fan: {machine}}}",
        ]
        self.config.write_text("\n".join(lines) + "\n")

    @property
    def config(self) -> Path:
        return self.folder / "monitor.yaml"

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "monitor.cli.main", "--config", str(self.config), *map(str, words)]

    def start(self, *words: object, environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )

    def run(self, *words: object, status: int = 0, environment: dict[str, str] | None = None) -> str:
        """Run a command of `monitor`; its stdout, or its last error."""
        process = self.start(*(words or ("update",)), environment=environment)
        out, err = process.communicate(timeout=120)
        assert process.returncode == status, (process.returncode, out, err)
        assert "Traceback" not in err
        return out.strip() if status == 0 else err.strip().splitlines()[-1]

    def measured(self, *words: object) -> tuple[str, str]:
        """The output of a command that succeeds, and its time and peak memory in words."""
        command = [sys.executable, "-c", MEASURE, *self.command(*words)]  # a small parent: the peak of a fork is its parent's
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        took_s, cpu_s, peak_mb = map(float, done.stderr.splitlines()[-1].split())
        assert peak_mb < 250
        return done.stdout.strip(), f"{took_s:.1f} s, {cpu_s:.1f} s of CPU, at most {peak_mb:.0f} MB resident"

    def installed(self) -> Installed:
        return read_installed(self.folder / "installed", "fan")

    def bundle_in_use(self) -> str:
        """Of the next start of the service; it loads."""
        current = self.installed().current
        folder = self.bundle if current.folder is None else self.folder / "installed" / "machines" / "fan" / current.folder
        return load_bundle(folder).id


def changed_bundle(bundle: Path, out: Path, *, factor: float = 1.0, **calibration: float) -> Path:
    """A bundle with other thresholds, and so with another hash."""
    shutil.copytree(bundle, out)
    manifest = json.loads((out / "manifest.json").read_text())
    values = manifest["calibration"]
    for key in ("threshold", "file_threshold", "tick_threshold", "alarm_threshold", "file_alarm_threshold"):
        if key in values:
            values[key] *= factor
    values.update(calibration)
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def endless(handler: Handler, _content: bytes) -> None:
    """Send zeros for ever."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        return


def trickling(handler: Handler, content: bytes) -> None:
    """Send a byte now and then."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    try:
        for at in range(len(content)):
            handler.wfile.write(content[at : at + 1])
            handler.wfile.flush()
            time.sleep(0.5)
    except OSError:
        return


def truncated(handler: Handler, content: bytes) -> None:
    """Promise all and send half."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def short(handler: Handler, content: bytes) -> None:
    """Send half, and say so."""
    half = content[: len(content) // 2]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(half)))
    handler.end_headers()
    handler.wfile.write(half)
