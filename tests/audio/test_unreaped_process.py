"""A capture process that cannot be reaped, as one whose driver hangs in the kernel, is not followed by others."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from unittest.mock import Mock

import pytest

from monitor.audio.microphone import RETRY_MAX_S, Microphone
from monitor.bundle import load_bundle
from monitor.clips.service import ClipService
from monitor.config import Config
from monitor.daemon.alarms import Alarms
from monitor.daemon.supervisor import Supervisor
from tests.conftest import need
from tests.waiting import wait_until

# A process that is traced stays unreaped after SIGKILL until its tracer lets go: to its parent it looks like one in state D.
HANGING = """#!{python}
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
PR_SET_PTRACER, ANY, PTRACE_SEIZE = 0x59616D61, -1, 0x4206
parent = os.getpid()
libc.prctl(PR_SET_PTRACER, ctypes.c_ulong(ANY), 0, 0, 0)
if os.fork() == 0:
    os.setsid()  # the group is killed, the tracer stays
    traced = libc.ptrace(PTRACE_SEIZE, parent, 0, 0) == 0
    with open("{folder}/starts", "a") as file:
        file.write("traced\\n" if traced else "refused\\n")
    ends = time.monotonic() + 60
    while traced and time.monotonic() < ends and not os.path.exists("{folder}/release"):
        time.sleep(0.02)
    os._exit(0)
time.sleep(60)
"""


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every capture process that is started hangs, and adds a line here."""
    program = tmp_path / "hanging"
    program.write_text(HANGING.format(python=sys.executable, folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    yield tmp_path / "starts"
    (tmp_path / "release").touch()


def lines(starts: Path) -> list[str]:
    return starts.read_text().splitlines() if starts.exists() else []


def test_at_most_one_unreaped_process(starts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(Microphone("name:x", wanted_rate_hz=16_000)) as microphone:

        def polled(ends_s: float = float("inf")) -> bool:
            microphone.poll()
            return time.monotonic() > ends_s

        def is_stuck() -> bool:
            polled()
            assert len(lines(starts)) <= 1
            return microphone.trouble is not None and "does not exit" in microphone.trouble.detail

        wait_until(lambda: polled() or lines(starts))
        need(lines(starts) == ["traced"], "permission to trace a process")
        wait_until(is_stuck)
        assert microphone.trouble is not None
        assert microphone.trouble.reason == "frozen"
        ends_s = time.monotonic() + 1.5 * RETRY_MAX_S
        wait_until(lambda: is_stuck() and time.monotonic() > ends_s)
        assert len(lines(starts)) == 1
        assert len([line for line in caplog.messages if "does not exit" in line]) == 1
        (tmp_path / "release").touch()  # now it can be reaped, and so can the next ones
        wait_until(lambda: polled() or len(lines(starts)) > 1)


def test_at_most_one_unreaped_process_while_its_machine_is_disabled_and_enabled(
    starts: Path, tmp_path: Path, demo_bundle: Path
) -> None:
    bundle = load_bundle(demo_bundle)
    on, off = (
        Config.model_validate(
            {"node": "pi", "machines": {"fan": {"bundle": str(demo_bundle), "microphone": "name:x", "enabled": enabled}}}
        )
        for enabled in (True, False)
    )
    clips = ClipService(None, run=lambda job: job(), present=None)
    supervisor = Supervisor(Mock(), Alarms({}), clips, node="pi", slow_paths={})

    def polled() -> bool:
        supervisor.poll()
        return False

    with ExitStack() as stack:
        stack.callback(supervisor.stop)
        supervisor.apply_config(on, {"fan": bundle})
        wait_until(lambda: polled() or lines(starts))
        need(lines(starts) == ["traced"], "permission to trace a process")
        for _ in range(3):
            began_s = time.monotonic()
            supervisor.apply_config(off, {})
            assert time.monotonic() - began_s < 0.9  # it does not wait for the process
            supervisor.poll()
            supervisor.apply_config(on, {"fan": bundle})
            ends_s = time.monotonic() + 0.7
            while time.monotonic() < ends_s:
                supervisor.poll()
                time.sleep(0.05)
            assert len(lines(starts)) == 1
        (tmp_path / "release").touch()
        wait_until(lambda: polled() or len(lines(starts)) > 1)


def test_microphones_of_one_selector_with_different_rates_wait_for_a_process_each(
    starts: Path, tmp_path: Path, demo_bundle: Path
) -> None:
    bundle = load_bundle(demo_bundle)
    on = Config.model_validate({"node": "pi", "machines": {"a": {"bundle": str(demo_bundle), "microphone": "name:x"}}})
    other = on.machines["a"].model_copy(update={"microphone_rate_hz": 48_000})
    on = on.model_copy(update={"machines": {**on.machines, "b": other}})
    off = on.model_copy(update={"machines": {}})
    clips = ClipService(None, run=lambda job: job(), present=None)
    supervisor = Supervisor(Mock(), Alarms({}), clips, node="pi", slow_paths={})

    def polled() -> bool:
        supervisor.poll()
        return len(lines(starts)) >= 2

    with ExitStack() as stack:
        stack.callback(supervisor.stop)
        supervisor.apply_config(on, {"a": bundle, "b": bundle})
        wait_until(polled)
        need(lines(starts) == ["traced"] * 2, "permission to trace a process")
        for _ in range(2):
            supervisor.apply_config(off, {})
            supervisor.apply_config(on, {"a": bundle, "b": bundle})
            ends_s = time.monotonic() + 1.0
            while time.monotonic() < ends_s:
                supervisor.poll()
                time.sleep(0.05)
            assert len(lines(starts)) == 2
        (tmp_path / "release").touch()
        wait_until(lambda: polled() and len(lines(starts)) > 3)


def test_a_stop_kills_every_process_and_then_waits_a_second_in_total(starts: Path, demo_bundle: Path) -> None:
    bundle = load_bundle(demo_bundle)
    machines = {name: {"bundle": str(demo_bundle), "microphone": f"name:{name}"} for name in ("a", "b", "c")}
    clips = ClipService(None, run=lambda job: job(), present=None)
    supervisor = Supervisor(Mock(), Alarms({}), clips, node="pi", slow_paths={})
    with ExitStack() as stack:
        stack.callback(supervisor.stop)
        supervisor.apply_config(Config.model_validate({"node": "pi", "machines": machines}), dict.fromkeys(machines, bundle))

        def has_started() -> bool:
            supervisor.poll()
            return len(lines(starts)) == len(machines)

        wait_until(has_started)
        need(set(lines(starts)) == {"traced"}, "permission to trace a process")
        began_s = time.monotonic()
        supervisor.stop()
        assert 0.9 < time.monotonic() - began_s < 1.9
