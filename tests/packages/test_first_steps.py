"""From the Debian package to an alarm: a fresh Debian with systemd, a broker, and a microphone beside a fan that fails."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from tests.conftest import ROOT
from tests.rig import PCM
from tests.system.debian import layers_with_sound
from tests.system.nspawn import Container

LONG = bool(os.environ.get("LONG_TESTS"))
SOCKET = "/run/machine/pulse.sock"
MODULES = (
    "module-null-sink sink_name=machine rate=48000 channels=1 norewinds=1",
    f"module-native-protocol-unix auth-anonymous=1 socket={SOCKET}",
)
FAN = "stethos/workshop/fan"
SETUP = "monitor setup --yes --node workshop --machine fan --microphone name:mic --broker 127.0.0.1 --learn"
TRAINED = "sed -i 's/bundle: models.*/bundle: models\\/demo-fan/' /etc/stethos/monitor.yaml; systemctl reload stethos"
LEARN_MINUTES = 6.0


class Computer:
    """The container, with a microphone that hears what is played."""

    def __init__(self, container: Container, deb: Path, folder: Path) -> None:
        self.container = container
        container.put(deb, "/root/stethos.deb")
        container.put(PCM.format("mic", SOCKET), "/etc/asound.conf")
        sound, rate_hz = soundfile.read(ROOT / "demo" / "fan-bearing.flac")
        for name, start_s, end_s in (("normal", 0, 30), ("fault", 40, 80)):  # it fails from 31 s to 85 s
            played = np.tile(soxr.resample(sound[start_s * rate_hz : end_s * rate_hz], rate_hz, 48_000), 480 // (end_s - start_s))
            soundfile.write(folder / f"{name}.wav", played, 48_000)
            container.put(folder / f"{name}.wav", f"/root/{name}.wav")
        container.check("mkdir -m 755 /run/machine")
        options = "-n --daemonize=no --exit-idle-time=-1 --use-pid-file=no --disable-shm=1"
        server = " ".join(("pulseaudio", options, *(f"-L '{module}'" for module in MODULES)))
        container.check(f"systemd-run --unit=microphone --setenv=XDG_RUNTIME_DIR=/run/machine {server}")
        container.wait_for(lambda: container.run(f"test -S {SOCKET}").returncode == 0)

    def play(self, name: str) -> None:
        """Play eight minutes of a sound, instead of the one before."""
        self.container.run("systemctl stop machine")
        player = f"paplay --device=machine --latency-msec=1000 /root/{name}.wav"
        self.container.check(f"systemd-run --collect --unit=machine --setenv=PULSE_SERVER=unix:{SOCKET} {player}")

    def retained(self, topic: str) -> str:
        """What the broker keeps under a topic of the fan."""
        return self.container.check(f"mosquitto_sub -h 127.0.0.1 -t {FAN}/{topic} -C 1 -W 30")

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.retained("state")))


@pytest.fixture
def computer(deb: Path, tmp_path: Path) -> Iterator[Computer]:
    with Container(layers_with_sound()) as container:
        yield Computer(container, deb, tmp_path)


@pytest.mark.parametrize("learns", [False, pytest.param(True, marks=pytest.mark.skipif(not LONG, reason="six minutes: --long"))])
def test_few_commands_lead_from_the_package_to_an_alarm(
    computer: Computer, record_property: Callable[[str, object], None], learns: bool
) -> None:
    """They are: install, set up (which learns), status, try the alarm. Without learning, the fan gets a bundle trained for it."""
    check = computer.container.check
    computer.play("normal")
    began = time.monotonic()
    check("apt-get install -y /root/stethos.deb </dev/null", timeout_s=300)
    check(f"{SETUP} {LEARN_MINUTES if learns else 'no'}", timeout_s=600)
    if not learns:
        computer.container.wait_for(lambda: computer.state()["state"] == "learning")
        assert (computer.retained("availability"), computer.retained("anomaly")) == ("online", "None")
        check(TRAINED)
    computer.container.wait_for(lambda: computer.state()["state"] == "normal")
    guarding = time.monotonic()
    assert "normal" in check("monitor status")
    assert "broker" in check("monitor test-alarm")
    computer.container.wait_for(lambda: computer.retained("anomaly") == "OFF")
    tried = time.monotonic()
    computer.play("fault")
    computer.container.wait_for(lambda: computer.retained("anomaly") == "ON")
    minutes, alarm_s = (guarding - began) / 60, time.monotonic() - tried
    record_property("figures", f"4 commands, {minutes:.1f} minutes until it guards, alarm {alarm_s:.0f} s after the fault")
