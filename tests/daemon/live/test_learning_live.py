"""From a base bundle to a machine that is monitored, and back: a real service, a real broker, and a microphone that runs fast."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.broker import running_broker
from tests.daemon.daemon_process import ROOT, DaemonProcess
from tests.daemon.deaf_fan import BASE, RATE_HZ, Service
from tests.daemon.fast_service import NAMED
from tests.subscriber import Subscriber
from tests.waiting import wait_until
from train.synth import MACHINES, Growth, Scene

NORMAL_S, SCREAM_S = 450.0, 40.0
LEARN = '{"minutes": 6}'
IS_LEARNED = 'fan is being learned; one at a time. To end it: monitor learn --machine fan --stop, or {"stop": true} to set/learn'


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's fan, and the same fan while something screams."""
    folder = tmp_path_factory.mktemp("sounds")
    scene = Scene(machine=MACHINES["fan"](0), take=90, growth=Growth())
    normal = np.concatenate(list(scene.chunks(NORMAL_S)))
    t = np.arange(round(SCREAM_S * RATE_HZ)) / RATE_HZ
    scream = normal[: len(t)] + 0.4 * np.sin(2 * np.pi * 3000.0 * t)
    soundfile.write(folder / "normal.wav", normal, RATE_HZ)
    soundfile.write(folder / "scream.wav", np.clip(scream, -1.0, 1.0), RATE_HZ)
    return folder


class Node(Service):
    """The service, and what its microphone receives."""

    def play(self, path: Path) -> None:
        (self.daemon.folder / "sound").write_text(str(path))

    def configure(self, *machines: str, more: str = "") -> None:
        entry = f"{{bundle: {self.bundle}, microphone: 'name:mic', microphone_rate_hz: {RATE_HZ}}}"
        mqtt = f"mqtt: {{port: {self.broker.port}, reconnect_min_s: 0.2, reconnect_max_s: 1.0}}"
        lines = ["node: pi", mqtt, more, "machines:", *(f"  {name}: {entry}" for name in machines)]
        self.daemon.config.write_text("\n".join(lines) + "\n")

    def learning(self) -> dict[str, Any] | None:
        """The retained message; None if it was removed."""
        payloads = self.watcher.on(f"{BASE}/fan/learning")
        return json.loads(payloads[-1]) if payloads and payloads[-1] else None

    def until_learning(self, **values: object) -> dict[str, Any]:
        self.until(lambda: values.items() <= (self.learning() or {}).items(), f"{values}, {self.learning()}")
        message = self.learning()
        assert message is not None
        return message

    def until_result(self, part: str, n_before: int) -> dict[str, Any]:
        """The second answer to a command; `n_before` answers came earlier, the first one included."""
        wait_until(lambda: len(self.answers()) > n_before, 300.0, what=f"a result\n{self.daemon.log[-2000:]}")
        answer = self.answers()[n_before]
        assert part in (answer["result"] or answer["reason"] or ""), answer
        return answer

    def done(self, command: str, payload: str, part: str) -> dict[str, Any]:
        """Send a command and wait for its result."""
        answer = self.order(command, payload)
        assert answer["accepted"], answer
        return self.until_result(part, len(self.answers()))

    def events(self) -> list[str]:
        return self.watcher.on(f"{BASE}/fan/event")

    def stored(self) -> list[str]:
        folder = self.daemon.folder / "state" / "learned" / "fan"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def tool(self, *words: str) -> "subprocess.Popen[str]":
        folders = {"RUNTIME_DIRECTORY": str(self.daemon.folder / "run"), "STATE_DIRECTORY": str(self.daemon.folder / "state")}
        command = [sys.executable, "-m", "monitor.cli.main", "--config", str(self.daemon.config), *words]
        environment = {**os.environ, **folders, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def node(tmp_path: Path, base_bundle: Path, sounds: Path) -> Iterator[Node]:
    (tmp_path / "daemon").mkdir()
    environment = {NAMED: str(tmp_path / "daemon" / "sound")}
    daemon = DaemonProcess(tmp_path / "daemon", environment, module="tests.daemon.fast_service")
    with running_broker(tmp_path) as broker, Subscriber(broker, "-T", "stethos/+/+/set/#") as watcher, daemon:
        node = Node(daemon, broker, watcher, base_bundle)
        node.play(sounds / "normal.wav")
        node.configure("fan")
        daemon.start().ready(within_s=60.0)
        yield node


def test_a_base_bundle_judges_nobody_until_the_machine_is_learned_which_survives_a_kill_and_is_undone_in_steps(
    node: Node, sounds: Path
) -> None:
    node.until_state(state="learning", reason=None, ratio=None, threshold=None, slow_path=None)
    message = node.until_learning(phase="not_started", missing="not started: 10 minutes of normal sound are missing")
    assert [promise["minutes"] for promise in message["promises"]] == [10.0, 30.0, 120.0]
    node.play(sounds / "scream.wav")
    node.until(lambda: (node.states()[-1]["rms_dbfs"] or -99.0) > -15.0, "the scream")
    n_states = len(node.states())
    node.until(lambda: len(node.states()) > n_states + 6, "a minute of it")
    assert not {"normal", "anomaly", "idle"} & {state["state"] for state in node.states()}  # a busy computer has gaps: `unknown`
    assert node.events() == []
    assert node.anomaly() == "None"
    assert node.watcher.on(f"{BASE}/fan/availability")[-1] == "online"
    assert "knows no machine" in node.done("calibrate", '{"minutes": 1}', "base bundle")["reason"]
    node.play(sounds / "normal.wav")

    assert node.order("learn", '{"minutes": 6, "request": "first"}')["accepted"]
    assert node.order("learn", LEARN)["reason"] == IS_LEARNED
    node.until(lambda: (node.learning() or {}).get("done_s", 0.0) > 150.0, f"two minutes of sound, {node.learning()}")
    node.daemon.kill()
    assert node.stored() == ["unfinished"]
    n_answers = len(node.answers())
    node.daemon.told.clear()
    node.daemon.start().ready(within_s=60.0)
    node.until(lambda: (node.learning() or {}).get("resumed_s", 0.0) > 100.0, f"what was heard before, {node.learning()}")
    answer = node.until_result("learned from 6", n_answers)
    assert (answer["request"], answer["accepted"]) == ("first", True)
    assert "x the usual score" in answer["result"]
    assert "learning was interrupted by a restart and continues" in node.daemon.log
    node.until_state(state="normal")
    node.until(lambda: node.learning() is None, "the end of the message")
    assert len(node.stored()) == 1
    assert node.stored()[0].endswith(".npz")

    extended = node.done("learn", '{"minutes": 6, "extend": true}', "learned from 1")["result"]
    assert re.search(r"learned from 1[12](\.\d)? min", extended), extended  # a gap of a busy computer costs some seconds
    node.until_state(state="normal")
    node.play(sounds / "scream.wav")
    node.until_state(state="anomaly", severity="alarm")
    node.play(sounds / "normal.wav")

    node.done("calibrate", '{"undo": true}', "learning undone")
    node.done(
        "calibrate", '{"undo": true}', "this would leave nothing learned: fan would not be monitored until it has learned again"
    )
    assert node.states()[-1]["state"] != "learning"
    node.done("calibrate", '{"undo": true, "force": true}', "learning undone")
    node.until_state(state="learning")
    node.until_learning(phase="not_started")
    assert node.stored() == []


def test_the_command_asks_the_service_which_goes_on_without_it_until_it_is_stopped(node: Node) -> None:
    node.until_state(state="learning")
    person = node.tool("learn", "--yes", "--minutes", "200")
    node.until_learning(phase="recording", wanted_s=12_000.0)
    person.send_signal(signal.SIGINT)
    assert person.wait(10) == 130
    other = node.tool("learn", "--yes", "--minutes", "6")
    assert IS_LEARNED in other.communicate(timeout=30)[1]
    assert other.returncode == 2
    done_s = node.until_learning(phase="recording")["done_s"]
    node.until(lambda: (node.learning() or {}).get("done_s", 0.0) > done_s, "more sound")
    stop = node.tool("learn", "--stop")
    assert stop.communicate(timeout=30)[0] == "fan: learning stopped\n"
    node.until(lambda: node.answers()[-1]["reason"] == "stopped", "the end")
    node.until_learning(phase="not_started")
    assert node.stored() == []
    again = node.tool("learn", "--stop")
    assert "fan is not being learned" in again.communicate(timeout=30)[1]
    assert again.returncode == 2


def test_a_private_node_keeps_nothing_of_the_sound_and_begins_again(node: Node) -> None:
    node.configure("fan", more="private: true")
    node.daemon.stop()
    node.daemon.told.clear()
    node.daemon.start().ready(within_s=60.0)
    node.until_state(state="learning")
    assert node.order("learn", LEARN)["accepted"]
    node.until(lambda: (node.learning() or {}).get("done_s", 0.0) > 150.0, f"two minutes of sound, {node.learning()}")
    node.daemon.kill()
    unfinished = node.daemon.folder / "state" / "learned" / "fan" / "unfinished"
    assert [path.name for path in unfinished.iterdir()] == ["command.json"]
    node.daemon.told.clear()
    node.daemon.start().ready(within_s=60.0)
    assert node.until_learning(phase="recording", done_s=0.0, resumed_s=0.0)
