"""A day of sound through the daemon at full speed: exactly the events that were in it, and nothing that grows."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.broker import PERSISTENT, running_broker
from tests.conftest import ROOT
from tests.subscriber import Subscriber
from tests.system.live.soak import CYCLE_S, FAULTS_AT_S
from tests.waiting import wait_until
from train.cli.main import main as train

HOURS = 24 if os.environ.get("LONG_TESTS") else 1
MACHINES = ("fan", "stutters")  # the microphone of the second has an overrun every 9 seconds
EARLY = 3 if HOURS > 1 else 2  # cycles until caches are full: an hour of a day, two thirds of an hour


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    assert train(["synth", str(folder / "normal.flac"), "--take", "2000", "--seconds", "300", "--bangs-per-hour", "20"]) == 0
    assert train(["synth", str(folder / "fault.flac"), "--take", "2001", "--seconds", "60", "--fault", "bearing"]) == 0
    return folder


def test_a_long_time_gives_the_events_that_were_in_it_and_leaves_nothing_behind(
    tmp_path: Path, sounds: Path, demo_bundle: Path, record_property: Callable[[str, object], None]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with running_broker(tmp_path, PERSISTENT) as broker, Subscriber(broker, topic="stethos/#", session="listener") as listener:
        config = tmp_path / "monitor.yaml"
        machines = "".join(f"  {name}: {{bundle: {demo_bundle}, microphone: 'name:{name}'}}\n" for name in MACHINES)
        config.write_text(f"node: pi\nmqtt: {{port: {broker.port}}}\nmachines:\n{machines}")
        command = [sys.executable, "-m", "tests.system.live.soak", str(config), str(sounds), str(HOURS)]
        environment = {**os.environ, **of_the_unit(), "STATE_DIRECTORY": str(state), "RUNTIME_DIRECTORY": str(tmp_path)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=3600)
        assert done.returncode == 0, done.stderr[-3000:]
        wait_until(lambda: listener.ending("/status")[-1].payload == "offline", within_s=20.0, what="offline")
    began, *cycles = map(json.loads, done.stdout.splitlines())
    early, late = cycles[EARLY - 1], cycles[-1]
    record_property("figures", f"{len(listener.events())} events; {early}; {late}")
    assert late["hours"] == HOURS
    assert late["resident_mb"] - early["resident_mb"] < 2.0
    assert late["threads"] == early["threads"]
    assert late["files"] <= early["files"] + 2  # a connection of the moment
    assert max(cycle["outbox_mb"] for cycle in cycles) < 6.0  # SQLite lets its log grow to 4 MB
    for machine in MACHINES:
        assert_events([event for event in listener.events() if event["machine"] == machine], began["began_utc_s"], len(cycles))
        scored = [one.json["score"] is not None for one in listener.ending(f"{machine}/state")]
        assert sum(scored) > 0.85 * len(scored)


def of_the_unit() -> dict[str, str]:
    """The environment that systemd gives the daemon."""
    lines = (ROOT / "systemd" / "stethos.service").read_text().splitlines()
    settings = [line.removeprefix("Environment=") for line in lines if line.startswith("Environment=")]
    return dict(one.split("=", 1) for setting in settings for one in setting.split())


def assert_events(events: list[dict[str, Any]], began_utc_s: float, n_cycles: int) -> None:
    """Two anomalies a cycle, whole and in order, each where it was put; the second is lost in silence."""
    starts = [event for event in events if event["event_type"] == "start"]
    ends = [event for event in events if event["event_type"] == "end"]
    assert [event["id"] for event in starts] == [event["id"] for event in ends]
    assert [event["end_reason"] for event in ends] == ["cleared", "lost"] * n_cycles
    for start, end in zip(starts, ends, strict=True):
        assert [event["seq"] for event in events if event["id"] == start["id"]] == list(range(end["seq"] + 1))
    onsets = [datetime.fromisoformat(start["onset_ts"].replace("Z", "+00:00")).timestamp() - began_utc_s for start in starts]
    put = [cycle * CYCLE_S + at_s for cycle in range(n_cycles) for at_s in FAULTS_AT_S]
    assert onsets == pytest.approx(put, abs=6.0)  # a tick that passes by chance shortly before may count as the onset
