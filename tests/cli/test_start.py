"""The start and the end of the commands: odd arguments, streams, interrupts and installations."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.cli.commands import COMMANDS, parse
from monitor.cli.main import main

ROOT = Path(__file__).parents[2]
OLD_PYTHON_READS = (
    *("monitor/__init__.py", "monitor/errors.py", "monitor/command_line.py", "monitor/cli/__init__.py", "monitor/cli/main.py"),
    *("train/__init__.py", "train/cli/__init__.py"),
)


def monitor(
    *words: object, code: str = "", prepare: Callable[[], None] | None = None, **streams: int
) -> "subprocess.CompletedProcess[str]":
    """`monitor WORDS…` in a new process, after some code."""
    code = f"import sys; {code}\nfrom monitor.cli.main import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONUNBUFFERED", None)  # or nothing is left to write at the exit
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(command, text=True, env=environment, preexec_fn=prepare, check=False, timeout=60, **pipes)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--replya x.wav", "monitor: error: unrecognized argument --replya; did you mean --replay?"),
        ("-replay x.wav", "monitor: error: unrecognized argument -replay; did you mean --replay?"),
        ("--replya=x.wav", "monitor: error: unrecognized argument --replya; did you mean --replay?"),
        ("--fail_on_anomaly", "monitor: error: unrecognized argument --fail_on_anomaly; did you mean --fail-on-anomaly?"),
        ("--json", "monitor: error: unrecognized argument --json; see monitor --help"),
        ("devices --levle", "monitor devices: error: unrecognized argument --levle; did you mean --level?"),
        ("devices default", "monitor devices: error: unrecognized arguments: default; see monitor devices --help"),
        ("record --uot x --minutes 1", "monitor record: error: unrecognized argument --uot; did you mean --out?"),
        ("--", "monitor: error: unrecognized arguments: --; see monitor --help"),
        ("--a\nb", "monitor: error: unrecognized argument --a\\nb; see monitor --help"),
    ],
)
def test_a_misspelt_option_is_one_line_that_suggests_another(words: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split(" "))
    assert (ended.value.code, capsys.readouterr().err) == (2, f"{error}\n")


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        ("chekc-config", "check-config"),
        ("replay", "--replay"),
        ("--speed mx --replay x", "max"),
        ("record --label norml", "normal"),
    ],
)
def test_a_misspelt_value_is_one_line_that_suggests_another(
    words: str, suggestion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words.split())
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.endswith(f"; did you mean {suggestion}?\n")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--config", "configs/monitor.yaml", "check-config"]])
def test_a_full_disk_is_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = monitor(*words, stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "monitor: error: output: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("words", "status"), [(["--config", "nowhere.yaml", "check-config"], 78), (["--nothing"], 2)])
def test_the_status_remains_if_the_error_cannot_be_written(words: list[str], status: int) -> None:
    with Path("/dev/full").open("w") as full:
        assert monitor(*words, stdout=full.fileno(), stderr=full.fileno()).returncode == status


def test_without_any_stream_a_recording_is_replayed(demo_normal: Path, demo_bundle: Path) -> None:
    words = ["--replay", demo_normal, "--model", demo_bundle]
    assert monitor(*words, prepare=lambda: os.closerange(0, 3)).returncode == 0
    assert monitor("--config", "nowhere.yaml", "check-config", prepare=lambda: os.closerange(0, 3)).returncode == 78


INTERRUPT = """
import importlib.abc
class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "{}":
            sys.meta_path.remove(self)
            {}
sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize(
    "module", ["monitor.command_line", "argparse", "monitor.cli.commands", "monitor.cli.checking.check_config", "yaml"]
)
def test_an_interrupt_during_the_start_is_one_line(module: str) -> None:
    done = monitor("check-config", code=INTERRUPT.format(module, "raise KeyboardInterrupt"))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "monitor: interrupted\n")


@pytest.mark.parametrize("module", ["yaml", "numpy"])
def test_a_missing_library_is_one_line(module: str) -> None:
    done = monitor("check-config", code=INTERRUPT.format(module, "raise ModuleNotFoundError(name, name=name)"))
    error = f"monitor: error: {module} is not installed for {sys.executable}: pip install stethos\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", error)


def test_a_missing_library_of_an_extra_names_the_extra() -> None:
    done = monitor("web", code=INTERRUPT.format("uvicorn", "raise ModuleNotFoundError(name, name=name)"))
    error = f"monitor: error: uvicorn is not installed for {sys.executable}: pip install 'stethos[web]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", error)


def test_an_old_python_is_one_line() -> None:
    done = monitor("devices", code="sys.version_info = (3, 9, 18)")
    assert done.returncode == 1
    assert done.stderr.startswith("monitor: error: Python 3.10 or later is required, this is ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", OLD_PYTHON_READS)
def test_an_old_python_can_read_what_reports_it(name: str) -> None:
    text = (ROOT / name).read_text()
    ast.parse(text, feature_version=(3, 8))
    assert " | " not in text or "from __future__ import annotations" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([name, "--help"])
    assert f" {name}" in capsys.readouterr().out.partition("options:")[2]
