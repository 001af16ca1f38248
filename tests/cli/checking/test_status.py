"""`monitor status` and `monitor test-alarm` with the real daemon, microphone, broker, receiver and page."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.daemon.control.socket import NAME, request
from tests.conftest import ROOT
from tests.daemon.daemon_process import DaemonProcess
from tests.daemon.deaf_fan import BASE, RATE_HZ, Service, running_service
from tests.daemon.watching import Watching
from tests.notify.receivers import Webhook
from tests.terminal import Terminal
from tests.waiting import wait_until


@pytest.fixture
def service(tmp_path: Path, demo_bundle: Path, demo_normal: Path) -> Iterator[Service]:
    with running_service(tmp_path, demo_bundle, demo_normal) as running:
        yield running


def configure(service: Service, *machines: str, more: str = "", mqtt: str | None = None) -> None:
    mqtt = mqtt or f"{{port: {service.broker.port}, reconnect_min_s: 0.2, reconnect_max_s: 1.0}}"
    lines = [f"node: pi\nmqtt: {mqtt}\n{more}\nmachines:", *(f"  {machine}" for machine in machines)]
    service.daemon.config.write_text("\n".join(lines) + "\n")


def machine(name: str, bundle: Path, *, channel: int = 1, more: str = "", microphone: str = "name:mic") -> str:
    return f"{name}: {{bundle: {bundle}, microphone: '{microphone}', microphone_rate_hz: {RATE_HZ}, channel: {channel}{more}}}"


SILENT = ", idle: {below_dbfs: 0, means: anomaly}"
LEARNS = ROOT / "models" / "base"


def command(daemon: DaemonProcess, *words: str) -> "subprocess.CompletedProcess[str]":
    given = ["--config", str(daemon.config), *words]
    environment = {"STATE_DIRECTORY": str(daemon.folder / "state"), "RUNTIME_DIRECTORY": str(daemon.folder / "run")}
    return subprocess.run(
        [sys.executable, "-m", "monitor.cli.main", *given],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def states(daemon: DaemonProcess) -> dict[str, Any]:
    reply = request(daemon.folder / "run" / NAME, {"do": "status"})
    assert reply is not None
    return {name: one["state"] for name, one in reply.body["machines"].items()}


def test_each_state_has_its_line_and_its_next_step_and_the_worst_is_the_exit_status(service: Service, demo_bundle: Path) -> None:
    daemon = service.daemon
    with daemon:
        off = machine("off", demo_bundle, more=", enabled: false", channel=2)
        gone = machine("gone", demo_bundle, microphone="name:gone")
        fan = machine("fan", demo_bundle, more=SILENT)
        configure(service, fan, machine("pump", LEARNS, channel=2), gone, off)
        daemon.start().ready()
        service.until(lambda: states(daemon).get("fan") == "anomaly" and states(daemon).get("pump") == "learning", "an anomaly")
        done = command(daemon, "status")
        assert done.returncode == 3, done.stdout + done.stderr
        lines = done.stdout.splitlines()
        assert "\033" not in done.stdout
        assert [line.split()[:2] for line in lines[:4]] == [
            ["fan", "ALARM"],
            ["gone", "unknown"],
            ["pump", "learning"],
            ["off", "disabled"],
        ]
        assert "check the machine now" in lines[0]
        assert "plug the microphone in, or correct its selector (monitor devices)" in lines[1]
        assert "10 minutes of normal sound are missing" in lines[2]
        assert lines[2].endswith("monitor learn --machine pump")
        assert lines[4] == "broker connected"
        found = json.loads(command(daemon, "status", "--json").stdout)
        assert found["running"]
        assert found["machines"]["fan"]["severity"] == "alarm"
        assert found["machines"]["pump"]["learning"]["phase"] == "not_started"
        configure(service, gone, machine("pump", LEARNS, channel=2))
        assert command(daemon, "check-config").returncode == 0
        request(daemon.folder / "run" / NAME, {"do": "reload"})
        service.until(lambda: set(states(daemon)) == {"gone", "pump"}, "the reload")
        assert command(daemon, "status").returncode == 4
        configure(service, machine("pump", LEARNS, channel=2))
        request(daemon.folder / "run" / NAME, {"do": "reload"})
        service.until(lambda: states(daemon) == {"pump": "learning"}, "the reload")
        assert command(daemon, "status").returncode == 0
        daemon.stop()
        stopped = command(daemon, "status")
        assert stopped.returncode == 1
        assert "the service does not run; start it: sudo systemctl start stethos" in stopped.stderr
        assert json.loads(command(daemon, "status", "--json").stdout)["running"] is False
        no_service = command(daemon, "learn", "--stop")
        assert no_service.returncode == 1
        assert "no service runs, so nothing is being learned" in no_service.stderr


@pytest.mark.parametrize("text", [None, "node: pi\n", (ROOT / "configs/monitor.yaml").read_text()])
def test_where_nothing_is_set_up_it_says_how(tmp_path: Path, text: str | None) -> None:
    config = tmp_path / "monitor.yaml"
    if text is not None:
        config.write_text(text)
    given = ["--config", str(config)] if text is not None else []
    done = subprocess.run(
        [sys.executable, "-m", "monitor.cli.main", *given, "status"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path), "RUNTIME_DIRECTORY": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "the service does not run, and nothing is set up; run: sudo monitor setup" in done.stderr


def test_learning_without_its_microphone_says_so_and_status_that_it_is_under_way(service: Service) -> None:
    daemon = service.daemon
    environment = {"STATE_DIRECTORY": str(daemon.folder / "state"), "RUNTIME_DIRECTORY": str(daemon.folder / "run")}
    with daemon:
        configure(service, machine("gone", LEARNS, microphone="name:gone"))
        daemon.start().ready()
        service.until(lambda: states(daemon) == {"gone": "unknown"}, "the state")
        words = [sys.executable, "-m", "monitor.cli.main", "--config", str(daemon.config), "learn", "--yes"]
        learns = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        assert learns.stderr is not None
        line = next((line for line in learns.stderr if "waiting: " in line), "")
        assert "waiting: the microphone is absent; plug the microphone in" in line
        assert "learning is under way: 10 minutes of normal sound are missing" in command(daemon, "status").stdout
        with Terminal("--config", daemon.config, "learn", "--yes", environment={**os.environ, **environment}) as terminal:
            assert terminal.wait() == 2
            assert "monitor learn --machine gone --stop" in terminal.text
        assert command(daemon, "learn", "--stop").returncode == 0
        assert learns.wait(30) == 1


def test_colours_are_for_terminals_that_want_them(service: Service) -> None:
    daemon = service.daemon
    environment = {"STATE_DIRECTORY": str(daemon.folder / "state"), "RUNTIME_DIRECTORY": str(daemon.folder / "run")}
    with daemon:
        configure(service, machine("pump", LEARNS))
        daemon.start().ready()
        service.until(lambda: states(daemon) == {"pump": "learning"}, "the state")
        for settings, coloured in (({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)):
            with Terminal("--config", daemon.config, "status", environment={**environment, **settings}) as terminal:
                assert terminal.wait() == 0
                assert ("\033[36mlearning" in terminal.text) == coloured


def test_a_test_alarm_passes_through_the_whole_chain_and_leaves_no_trace(service: Service) -> None:
    daemon = service.daemon
    with Webhook() as webhook, daemon:
        configure(service, machine("pump", LEARNS), more=f"notify: {{shift: {{url: '{webhook.url}'}}}}")
        daemon.start().ready()
        service.until(lambda: states(daemon) == {"pump": "learning"}, "the state")
        with Watching(daemon.folder / "run") as watching:
            done = command(daemon, "test-alarm")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "the broker acknowledged the event" in done.stdout
            assert "shows it" in done.stdout
            assert "shift           sent" in done.stdout
            assert command(daemon, "test-alarm").stderr.count("a test alarm of pump is open; it ends within 10 s") == 1
            start = watching.until("event", event_type="start")["data"]
            assert start["test"] is True
            assert start["summary"].startswith("TEST: ")
            end = watching.until("event", event_type="end")["data"]
            assert (end["test"], end["id"], end["end_reason"]) == (True, start["id"], "cleared")
            assert {line["data"]["state"] for line in watching.of("state")} == {"learning"}
        events = [json.loads(text) for text in service.watcher.on(f"{BASE}/pump/event")]
        wait_until(lambda: len(service.watcher.on(f"{BASE}/pump/event")) == 2)
        events = [json.loads(text) for text in service.watcher.on(f"{BASE}/pump/event")]
        assert [(one["event_type"], one["test"], one["severity"]) for one in events] == [
            ("start", True, "alarm"),
            ("end", True, "alarm"),
        ]
        wait_until(lambda: service.watcher.on(f"{BASE}/pump/anomaly")[-1] == "None")
        assert "ON" in service.watcher.on(f"{BASE}/pump/anomaly")
        assert [title for title in webhook.titles if "TEST" in title] == ["pump: TEST"]
        assert "no events" in command(daemon, "events").stdout
        state = json.loads(service.watcher.on(f"{BASE}/pump/state")[-1])
        assert (state["acknowledged"], state["flooding"], state["recent_anomalies"]) == (False, False, 0)


def test_a_test_alarm_of_an_alarming_machine_changes_neither_and_a_stop_ends_it(service: Service, demo_bundle: Path) -> None:
    daemon = service.daemon
    with daemon:
        configure(service, machine("fan", demo_bundle, more=SILENT))
        daemon.start().ready()
        service.until(lambda: service.watcher.on(f"{BASE}/fan/anomaly")[-1:] == ["ON"], "an anomaly")
        n_before = len(service.watcher.on(f"{BASE}/fan/event"))
        assert command(daemon, "test-alarm").returncode == 0
        daemon.stop()
        events = [json.loads(text) for text in service.watcher.on(f"{BASE}/fan/event")[n_before:]]
        assert [(one["event_type"], one["test"]) for one in events] == [("start", True), ("end", True), ("end", False)]
        assert service.watcher.on(f"{BASE}/fan/anomaly")[-1] == "None"


def test_without_a_broker_and_with_one_that_is_away_it_says_so(service: Service) -> None:
    daemon = service.daemon
    with daemon:
        configure(service, machine("pump", LEARNS), mqtt="null")
        daemon.start().ready()
        done = command(daemon, "test-alarm")
        assert done.returncode == 0
        assert "none (mqtt: null)" in done.stdout
        daemon.stop()
        daemon.told.clear()
        configure(service, machine("pump", LEARNS))
        service.broker.kill()
        daemon.start().ready()
        done = command(daemon, "test-alarm")
        assert done.returncode == 1
        assert "QUEUED: " in done.stdout
        daemon.stop()
    assert command(daemon, "test-alarm").returncode == 1
