"""`monitor demo`: one line with the address, a page with sound that plays, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT
from tests.waiting import wait_until

COMMAND = [sys.executable, "-m", "monitor.cli.main", "demo"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_plays_prints_its_address_and_ends_all_its_processes(folder: Path, ending: signal.Signals) -> None:
    demo = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(folder), text=True)
    try:
        assert demo.stdout is not None and demo.stderr is not None
        address = demo.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:") and address.endswith("/")

        def machines() -> dict[str, Any]:
            assert demo.poll() is None
            try:
                with urllib.request.urlopen(f"{address}api/machines", timeout=10) as answer:
                    return {one["id"]: one for one in json.load(answer)["machines"]}
            except (urllib.error.URLError, ConnectionError):
                return {}

        wait_until(lambda: len(machines()) == 2, within_s=90, what="the page")
        wait_until(lambda: all(one["state"]["ratio"] for one in machines().values()), within_s=60, what="scores")
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= 3  # the service, and two that play
        demo.send_signal(ending)
        output, errors = demo.communicate(timeout=30)
        assert output == ""
        assert "Traceback" not in errors
        wait_until(lambda: not [one for one in children if one.is_running()], what="the end of its processes")
        if ending != signal.SIGKILL:
            assert demo.returncode in (0, 130)
            assert [path.name for path in folder.iterdir() if path.name.startswith("stethos-demo")] == []
    finally:
        demo.kill()
        demo.wait()


def services(pid: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(pid).children() if "monitor.demo.service" in one.cmdline()]


@pytest.mark.parametrize("is_started", [False, True])
def test_it_ends_when_its_service_does(folder: Path, is_started: bool) -> None:
    demo = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(folder), text=True)
    try:
        assert demo.stdout is not None
        if is_started:
            demo.stdout.readline()
        wait_until(lambda: services(demo.pid), what="its service")
        services(demo.pid)[0].kill()
        _, errors = demo.communicate(timeout=30)
        assert demo.returncode == 1
        assert errors.splitlines()[-1] == "monitor: error: the service ended with status -9"
    finally:
        demo.kill()
        demo.wait()


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["nowhere.wav"], 1, "nowhere.wav: cannot be read: No such file or directory"),
        (["--model", "nowhere"], 78, "nowhere"),
        (["--port", "70000"], 2, "--port must be in 0..65535, got 70000"),
    ],
)
def test_what_cannot_be_played_is_one_line(folder: Path, arguments: list[str], status: int, text: str) -> None:
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, env=environment(folder), text=True, check=False)
    assert result.returncode == status
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1 and text in result.stderr
