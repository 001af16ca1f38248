"""`monitor demo`: play recordings through the live service, over and over, and serve the page. No microphone, no broker."""

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from monitor.audio.recording import Recording
from monitor.bundle import load_bundle
from monitor.child_process import child_command
from monitor.config import load_config
from monitor.errors import StethosError, UsageError
from monitor.shipped import shipped

STOP_S = 10.0

EPILOG = """\
Without FILE, the shipped recordings are played: a fan whose bearing fails and is repaired, and a second one that is well.

  monitor demo
  monitor demo my-fan.wav --model models/my-fan
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="recordings to play instead, one after the other")
    parser.add_argument("--model", type=Path, metavar="DIR", help="their bundle (default: the demo's)")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of the page on 127.0.0.1 (default: a free one)")


def run(arguments: argparse.Namespace) -> int:
    """Run the service as a child and the page in this process, until interrupted."""
    if not 0 <= arguments.port <= 65_535:
        raise UsageError(f"--port must be in 0..65535, got {arguments.port}")
    plan = _plan(arguments.files)
    bundle = arguments.model or shipped("models/demo-fan")
    _check(plan, bundle)
    from monitor.web.server import run_server

    with tempfile.TemporaryDirectory(prefix="stethos-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        config_path = folder / "monitor.yaml"
        config_path.write_text(yaml.safe_dump(_settings(plan, bundle.resolve(), folder, arguments.port or _free_port())))
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("STETHOS_", "NOTIFY_"))}
        config = load_config(config_path, environment)
        logging.getLogger("monitor.web").setLevel(logging.WARNING)  # its hints are about passwords and units
        with _service(config_path, plan, environment) as service:
            try:
                print(f"http://127.0.0.1:{config.web.port}/", flush=True)
                status = run_server(config, environment)
            except KeyboardInterrupt:  # before the page takes signals
                if service.poll() is None:
                    raise
            if service.poll() is None:
                return status
            raise StethosError(f"the service ended with status {service.returncode}")


def _plan(files: Sequence[Path]) -> dict[str, list[Path]]:
    """The recordings by microphone."""
    if files:
        return {"name:recordings": [path.resolve() for path in files]}
    bearing, normal = (shipped(f"demo/fan-{name}.flac") for name in ("bearing", "normal"))
    return {"name:fan-1": [bearing, normal], "name:fan-2": [normal]}


def _check(plan: Mapping[str, Sequence[Path]], bundle: Path) -> None:
    """Refuse at once what the service would try again and again."""
    rate_hz = load_bundle(bundle).manifest.front_end.sample_rate_hz
    for path in [path for files in plan.values() for path in files]:
        Recording(path, sample_rate_hz=rate_hz)


def _settings(plan: Mapping[str, Sequence[Path]], bundle: Path, folder: Path, port: int) -> dict[str, Any]:
    names = ["Fan 1", "Fan 2"] if len(plan) == 2 else [next(iter(plan.values()))[0].stem]
    machines = {
        selector.partition(":")[2]: {"bundle": str(bundle), "microphone": selector, "name": name}
        for selector, name in zip(plan, names, strict=True)
    }
    folders = {"state_dir": str(folder / "state"), "runtime_dir": str(folder / "run")}
    return {
        "node": "demo",
        "mqtt": None,
        "home_assistant": {"enabled": False},
        "web": {"port": port, "state_dir": str(folder / "web")},
        "machines": machines,
        **folders,
    }


@contextmanager
def _service(
    config_path: Path, plan: Mapping[str, Sequence[Path]], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The service as a child process. It ends with this one, however that ends; if it ends itself, this one is interrupted."""
    names = json.dumps({selector: [str(path) for path in files] for selector, files in plan.items()})
    command = child_command("monitor.demo.service", str(config_path), names)
    try:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, env=dict(environment), start_new_session=True)
    except OSError as error:
        raise StethosError(f"the service cannot be started: {error.strerror or error}") from None
    assert child.stdin is not None
    is_stopping = threading.Event()

    def wait() -> None:
        child.wait()
        if not is_stopping.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield child
    finally:
        is_stopping.set()
        child.stdin.close()  # it stops
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOP_S)
        if child.poll() is None:
            child.kill()
            child.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
