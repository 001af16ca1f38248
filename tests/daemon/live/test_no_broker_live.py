"""A node without a broker (`mqtt: null`): events reach the history, the clips and the clients of the control socket."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.cli.main import main
from monitor.daemon.control.socket import NAME, request
from tests.daemon.daemon_process import DaemonProcess
from tests.daemon.deaf_fan import long_sound
from tests.daemon.watching import Watching
from tests.rig import virtual_microphone
from tests.waiting import wait_until

RATE_HZ = 16_000


@pytest.fixture
def daemon(tmp_path: Path, demo_bundle: Path, demo_normal: Path) -> Iterator[DaemonProcess]:
    """A fan whose every sound is taken for its silence, which is its anomaly."""
    with virtual_microphone(tmp_path / "audio", rate_hz=RATE_HZ) as microphone:
        microphone.play(long_sound(tmp_path, demo_normal))
        (tmp_path / "daemon").mkdir()
        with DaemonProcess(tmp_path / "daemon", microphone.environment) as daemon:
            daemon.config.write_text(
                "node: pi\nmqtt: null\nmachines:\n"
                f"  fan: {{bundle: {demo_bundle}, microphone: 'name:mic', microphone_rate_hz: {RATE_HZ}, "
                "idle: {below_dbfs: 0, means: anomaly}}\n"
            )
            yield daemon


def test_events_reach_everybody_else_and_it_is_said_plainly(
    daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.start().ready()
    run_folder = daemon.folder / "run"
    with Watching(run_folder) as watch:
        assert watch.of("node") == [] or watch.of("node")[0]["data"]["mqtt"] is None
        event = watch.until("event", event_type="start")["data"]
        watch.until("event", id=event["id"], has_picture=True)
        order = {"do": "command", "machine": "fan", "command": "ack", "by": "web:admin"}
        reply = request(run_folder / NAME, order)
        assert reply is not None
        assert reply.body["response"]["accepted"]
        watch.until("state", acknowledged=True)
        node = watch.until("node")["data"]
        assert (node["mqtt"], node["health"]["queued"], node["health"]["outbox_error"]) == (None, 0, None)
        wait_until(lambda: daemon.statuses()[-1].endswith("; no broker"), what="the status")
        daemon.signal(1)
        wait_until(lambda: "reloaded" in daemon.log)
        status, _ = daemon.stop()
        watch.wait(lambda: watch.ended, "the end")
        assert watch.of("event", id=event["id"], event_type="end")
    assert status == 0
    assert "Traceback" not in daemon.log
    assert "mqtt" not in daemon.log
    assert not (daemon.folder / "state" / "outbox.sqlite").exists()
    assert len([*(daemon.folder / "state" / "clips").glob("*.flac")]) == 1
    monkeypatch.setenv("STATE_DIRECTORY", str(daemon.folder / "state"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(run_folder))
    assert main(["--config", str(daemon.config), "events", "--json"]) == 0
    (stored,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (stored["id"], stored["end_reason"], stored["has_clip"]) == (event["id"], "shutdown", True)


def test_the_commands_say_that_there_is_no_broker(
    tmp_path: Path,
    demo_bundle: Path,
    demo_normal: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    config = tmp_path / "monitor.yaml"
    config.write_text(f"node: pi\nmqtt: null\nmachines: {{fan: {{bundle: {demo_bundle}, enabled: false}}}}\n")
    assert main(["--config", str(config), "check-config"]) == 0
    out = capsys.readouterr().out
    assert "\nmqtt: null\n" in out
    assert "# mqtt: null: no broker; events reach the history, clips, notifications and the page only" in out
    assert main(["--config", str(config), "mqtt-test"]) == 2
    assert main(["--config", str(config), "--replay", str(demo_normal), "--model", str(demo_bundle), "--publish"]) == 2
    assert caplog.messages == [
        "monitor: error: mqtt is null in the configuration: this node works without a broker, so there is none to test",
        "monitor: error: --publish needs a broker, but mqtt is null in the configuration",
    ]
