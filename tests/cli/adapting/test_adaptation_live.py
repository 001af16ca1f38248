"""`monitor calibrate`, `learn` and `set/calibrate` while the service runs: real microphone, broker and processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from monitor.daemon.control.socket import NAME, request
from tests.broker import say
from tests.daemon.daemon_process import ROOT
from tests.daemon.deaf_fan import BASE, RATE_HZ, Service, running_service
from tests.daemon.watching import Watching
from tests.waiting import wait_until
from train.synth import MACHINES, Growth, Scene

IS_LEARNED = 'fan is being learned; one at a time. To end it: monitor learn --machine fan --stop, or {"stop": true} to set/learn'


@pytest.fixture(scope="module")
def louder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's fan, 6 dB louder than it was trained with; in one piece: a join is a click, which is not learned from."""
    scene = Scene(machine=MACHINES["fan"](0), take=90, growth=Growth())
    path = tmp_path_factory.mktemp("sound") / "louder.wav"
    soundfile.write(path, 2.0 * np.concatenate(list(scene.chunks(600.0))), RATE_HZ, subtype="FLOAT")
    return path


@pytest.fixture
def service(tmp_path: Path, demo_bundle: Path, louder: Path) -> Iterator[Service]:
    with running_service(tmp_path, demo_bundle, louder) as running:
        configure(running)
        running.daemon.start().ready()
        yield running


def configure(service: Service) -> None:
    entry = f"{{bundle: {service.bundle}, microphone: 'name:mic', microphone_rate_hz: {RATE_HZ}, channel: 1}}"
    mqtt = f"mqtt: {{port: {service.broker.port}, reconnect_min_s: 0.2, reconnect_max_s: 1.0}}"
    service.daemon.config.write_text(f"node: pi\n{mqtt}\nmachines:\n  fan: {entry}\n")


def tool(service: Service, *words: str) -> "subprocess.Popen[str]":
    """`monitor WORDS…`, as run by a person while the service runs."""
    folders = {"RUNTIME_DIRECTORY": str(service.daemon.folder / "run"), "STATE_DIRECTORY": str(service.daemon.folder / "state")}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **folders}
    command = [sys.executable, "-m", "monitor.cli.main", "--config", str(service.daemon.config), *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_sound(tool: "subprocess.Popen[str]") -> None:
    """Until it receives the service's sound."""
    assert tool.stderr is not None
    assert any("shared by the service" in line for line in tool.stderr)


def bundle(service: Service) -> dict[str, str | None]:
    return dict(json.loads(service.watcher.on(f"{BASE}/info")[-1])["machines"]["fan"])


def order(service: Service, payload: str) -> None:
    say(service.broker, f"{BASE}/fan/set/calibrate", payload)


def test_a_calibration_over_mqtt_takes_effect_at_once_survives_a_restart_and_is_undone(service: Service) -> None:
    service.until_state(state="anomaly")
    configured = bundle(service)
    assert configured["adapted"] is None
    for payload, why in (
        ('{"minutes": 0}', "minutes must be in 1..120, got 0"),
        ('{"minutes": 121}', "minutes must be in 1..120, got 121"),
        ('{"hours": 1}', "hours"),
    ):
        assert why in (service.order("calibrate", payload)["reason"] or ""), payload
    assert service.order("calibrate", '{"minutes": 1, "request": "shift 2"}')["accepted"]
    assert service.order("calibrate")["reason"] == "fan is being calibrated; one at a time. Wait until it ends"
    assert service.order("learn")["reason"] == "fan is being calibrated; one at a time. Wait until it ends"
    n_states = len(service.states())
    n_answers = len(service.answers())
    with Watching(service.daemon.folder / "run") as watch:
        wait_until(lambda: len(service.answers()) > n_answers, 180.0, what="the result")  # the pipeline goes on meanwhile:
        watch.until("learning", command="calibrate", phase="computing", done_s=60.0)
        watch.wait(lambda: watch.of("learning")[-1]["data"] is None, "the end")
        assert watch.until("response", command="calibrate", request="shift 2")["data"]["result"]
    assert len(service.states()) > n_states + 3
    answer = service.answers()[-1]
    assert (answer["request"], answer["reason"]) == ("shift 2", None)
    assert "microphone or gain seems to have changed" in answer["result"]
    assert "in use" in answer["result"]
    service.until(lambda: bundle(service)["adapted"] == "calibrate", "the new bundle")
    service.until_state(state="normal")
    used = bundle(service)
    service.restart()
    service.until(lambda: bundle(service) == used, "the same bundle")
    service.until_state(state="normal")
    order(service, '{"undo": true}')
    service.until(lambda: "calibration undone" in (service.answers()[-1]["result"] or ""), "going back")
    service.until(lambda: bundle(service) == configured, "the configured bundle")
    service.until_state(state="anomaly")
    order(service, '{"undo": true}')
    service.until(lambda: "nothing was learned" in (service.answers()[-1]["reason"] or ""), "a refusal")


def test_a_person_calibrates_while_the_service_runs_and_a_kill_leaves_the_old_bundle(service: Service) -> None:
    service.until_state(state="anomaly")
    configured = bundle(service)
    killed = tool(service, "calibrate", "--minutes", "1")
    wait_for_sound(killed)
    killed.kill()
    interrupted = tool(service, "calibrate", "--minutes", "1")
    wait_for_sound(interrupted)
    rival = tool(service, "calibrate", "--minutes", "1")
    told = rival.communicate(timeout=30)[1]
    assert "another learn or calibrate is already running for fan; end it with Ctrl-C, or if the service learns, with" in told
    assert rival.returncode == 2
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait(10) == 130
    assert bundle(service) == configured
    done = tool(service, "calibrate", "--minutes", "1")
    out, err = done.communicate(timeout=240)
    assert done.returncode == 0, err
    assert "microphone or gain seems to have changed" in out
    assert out.rstrip().endswith("in use")
    service.until_state(state="normal")
    assert service.daemon.status is None
    assert not [path for path in (service.daemon.folder / "state" / "adapted" / "fan").iterdir() if path.name.startswith(".")]


def test_the_service_ends_a_calibration_when_it_is_stopped(service: Service) -> None:
    assert service.order("calibrate", '{"minutes": 120}')["accepted"]
    service.until(lambda: calibrating(service), "its process")
    status, seconds = service.daemon.stop()
    assert status == 0
    assert seconds < 8.0
    assert calibrating(service) == ""


def test_a_calibration_ends_with_the_service_that_was_killed(service: Service) -> None:
    """Otherwise it would run on without sound, and the next one would be refused."""
    assert service.order("calibrate", '{"minutes": 120}')["accepted"]
    service.until(lambda: calibrating(service), "its process")
    service.daemon.kill()
    service.until(lambda: not calibrating(service), "its end")
    service.daemon.told.clear()
    service.daemon.start().ready()
    wait_until(lambda: any("mic, " in line for line in service.daemon.log.splitlines()), within_s=20.0, what="the microphone")
    assert service.order("calibrate", '{"minutes": 1}')["accepted"]
    service.until(lambda: calibrating(service), "its process")
    time.sleep(3.0)  # a refusal by the lock would follow
    assert service.answers()[-1]["accepted"], service.answers()[-1]["reason"]


def test_learning_over_the_socket_shows_its_progress_and_ends_with_the_service(service: Service) -> None:
    path = service.daemon.folder / "run" / NAME
    configured = bundle(service)
    with Watching(service.daemon.folder / "run") as watch:
        order = {
            "do": "command",
            "machine": "fan",
            "command": "learn",
            "payload": {"minutes": 6, "extend": True},
            "by": "web:admin",
        }
        reply = request(path, order, timeout_s=20.0)
        assert reply is not None
        assert reply.body["response"]["accepted"], reply.body
        refused = request(path, order, timeout_s=20.0)
        assert refused is not None
        assert refused.body["response"]["reason"] == IS_LEARNED
        watch.wait(
            lambda: watch.of("learning", phase="recording") and watch.of("learning")[-1]["data"]["done_s"] > 3.0, "progress"
        )
        data = watch.of("learning")[-1]["data"]
        assert (data["command"], data["wanted_s"], data["problem"]) == ("learn", 360.0, None)
        assert data["n_ticks"] > data["n_unusable"]
        assert -60.0 < data["rms_dbfs"] < 0.0
        with Watching(service.daemon.folder / "run") as late:
            assert late.until("learning")["data"]["command"] == "learn"  # part of the snapshot
        status, seconds = service.daemon.stop()
        assert (status, seconds < 8.0) == (0, True)
        assert watch.of("learning")[-1]["data"] is None
    assert calibrating(service, "learn") == ""
    service.daemon.told.clear()
    service.daemon.start().ready()
    service.until(lambda: bundle(service) == configured, "the configured bundle")


def calibrating(service: Service, command: str = "calibrate") -> str:
    """Ids of the processes that calibrate or learn for it."""
    words = ["pgrep", "-f", f"{service.daemon.config}.* {command}"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


@pytest.mark.skipif(not os.environ.get("LONG_TESTS"), reason="takes six minutes: LONG_TESTS=1")
def test_a_machine_is_learned_while_the_service_runs(service: Service) -> None:
    service.until_state(state="anomaly")
    assert service.order("learn", '{"minutes": 6}')["accepted"]
    n_answers = len(service.answers())
    wait_until(lambda: len(service.answers()) > n_answers, 600.0, what="the result")
    assert "learned from 6" in (service.answers()[-1]["result"] or ""), service.answers()[-1]
    service.until(lambda: bundle(service)["adapted"] == "learn", "the new bundle")
    service.until_state(state="normal")
