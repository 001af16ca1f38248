"""A reload by a calibration, while the bundle of another machine is damaged."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from monitor.daemon.control.socket import NAME, request
from tests.cli.bench import RATE_HZ, made
from tests.daemon.daemon_process import ROOT, DaemonProcess
from tests.waiting import wait_until


@pytest.fixture
def daemon(tmp_path: Path, demo_bundle: Path) -> Iterator[DaemonProcess]:
    """Two machines with a bundle each; neither has a microphone."""
    for name in ("fan", "pump"):
        shutil.copytree(demo_bundle, tmp_path / name)
    with DaemonProcess(tmp_path, {}) as daemon:
        configure(daemon, "fan", "pump")
        daemon.start().ready()
        yield daemon


def configure(daemon: DaemonProcess, *names: str, bundle: str = "") -> None:
    machines = "".join(f"  {name}: {{bundle: {bundle or name}, microphone: 'name:{name}'}}\n" for name in names)
    daemon.config.write_text(f"node: pi\nmqtt: {{port: 1}}\nmachines:\n{machines}")


def machines(daemon: DaemonProcess) -> dict[str, tuple[str | None, str]]:
    """Bundle and reason of each."""
    reply = request(daemon.folder / "run" / NAME, {"do": "status"})
    assert reply is not None
    return {name: (one["bundle"], one["reason"]) for name, one in reply.body["machines"].items()}


def calibrate(daemon: DaemonProcess) -> "subprocess.CompletedProcess[str]":
    soundfile.write(daemon.folder / "fan.wav", made("fan", take=70), RATE_HZ, subtype="FLOAT")
    command = [sys.executable, "-m", "monitor.cli.main", "--config", str(daemon.config), "calibrate", "--machine", "fan"]
    places = {"STATE_DIRECTORY": str(daemon.folder / "state"), "RUNTIME_DIRECTORY": str(daemon.folder / "run")}
    environment = {**os.environ, **places, "PYTHONPATH": str(ROOT)}
    command += ["--from", str(daemon.folder / "fan.wav")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_damaged_bundle_of_another_machine_keeps_running_and_blocks_no_calibration(daemon: DaemonProcess) -> None:
    before = machines(daemon)
    (daemon.folder / "pump" / "model.tflite").write_bytes(b"damaged")
    done = calibrate(daemon)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.rstrip().endswith("in use")
    after = machines(daemon)
    assert after["fan"][0] != before["fan"][0]
    assert after["pump"] == before["pump"]
    assert "machines.pump.bundle: " in daemon.log
    assert "; not reloaded" in daemon.log


def test_a_machine_that_had_no_usable_bundle_from_the_start_stays_unknown(daemon: DaemonProcess) -> None:
    daemon.stop()
    (daemon.folder / "pump" / "manifest.json").write_text("{}")
    daemon.told.clear()
    daemon.start().ready()
    assert machines(daemon)["pump"] == (None, "bundle")
    assert calibrate(daemon).returncode == 0
    assert machines(daemon)["pump"] == (None, "bundle")


def test_a_damaged_bundle_that_the_reload_would_bring_is_refused(daemon: DaemonProcess) -> None:
    before = machines(daemon)
    shutil.copytree(daemon.folder / "pump", daemon.folder / "new")
    manifest = json.loads((daemon.folder / "new" / "manifest.json").read_text())
    (daemon.folder / "new" / "manifest.json").write_text(json.dumps(manifest | {"golden": {"score": 1e9}}))
    (daemon.folder / "pump" / "model.tflite").write_bytes(b"damaged")
    configure(daemon, "fan", "pump", "saw")
    daemon.config.write_text(daemon.config.read_text().replace("bundle: saw", "bundle: new"))
    request(daemon.folder / "run" / NAME, {"do": "reload"})
    wait_until(lambda: "reload refused, the old settings stay: machines.saw.bundle: " in daemon.log)
    assert machines(daemon) == before
