"""`monitor devices` lists microphones by stable names and measures levels, with and without the service."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from monitor.audio.devices import Device, Usb
from monitor.cli.devices import merge
from monitor.cli.recording.level import levels
from monitor.daemon.control.shared_microphone import SharedMicrophone, find_shared
from monitor.daemon.control.socket import NAME
from monitor.errors import SourceError
from tests.cli.tool import run
from tests.daemon.control.sharing import sharing
from tests.rig import VirtualMicrophone

USB = Device(
    index=2,
    name="UMIK-1: USB Audio (hw:1,0)",
    host_api="ALSA",
    n_channels=2,
    default_rate_hz=48_000,
    rates_hz=(48_000,),
    is_default=False,
    usb=Usb("2752", "0007", "7001234", "1-1.2"),
    selector="usb:2752:0007:7001234",
)


def play_sine(rig: VirtualMicrophone, folder: Path, *, level: float) -> None:
    soundfile.write(folder / "sine.wav", level * np.sin(2 * np.pi * 1000 / 48_000 * np.arange(48_000 * 60)), 48_000)
    rig.play(folder / "sine.wav")


def described(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, dict[str, object]]:
    """Devices by name, from `--json`."""
    assert run("devices", "--json", *words) == 0
    return {device["name"]: device for device in json.loads(capsys.readouterr().out)["devices"]}


def test_a_microphone_is_listed_with_what_the_configuration_needs(
    rig: VirtualMicrophone, capsys: pytest.CaptureFixture[str]
) -> None:
    mic = described(capsys)["mic"]
    assert (mic["selector"], mic["held_as"], mic["is_virtual"]) == ("name:mic", [], True)
    assert run("devices") == 0
    out = capsys.readouterr().out
    assert 'mic\n    microphone: "name:mic"\n' in out
    assert "in use by the service" not in out


def test_microphones_in_use_by_the_service_are_marked(
    rig: VirtualMicrophone, tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "monitor.yaml"
    config.write_text(f"node: n\nmachines: {{fan: {{bundle: {demo_bundle}, microphone: 'name:mic'}}}}\n")
    with sharing(tmp_path / "run" / NAME, "name:mic", rig.environment):
        mic = described(capsys, "--config", config)["mic"]
        assert run("devices", "--config", config) == 0
    assert (mic["held_as"], mic["machines"]) == (["name:mic"], ["fan"])
    assert "in use by the service as name:mic for fan" in capsys.readouterr().out


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_the_level_of_a_sine_is_shown(
    rig: VirtualMicrophone,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    shared: bool,
) -> None:
    caplog.set_level("INFO")
    play_sine(rig, tmp_path, level=0.1)
    words = ("--level", "name:mic", "--seconds", 6, "--json")
    if shared:
        with sharing(tmp_path / "run" / NAME, "name:mic", rig.environment):
            assert run("devices", *words) == 0
    else:
        assert run("devices", *words) == 0
    assert ("shared by the service" in caplog.text) is shared
    lines = [json.loads(line)["channels"] for line in capsys.readouterr().out.splitlines()]
    assert len(lines) >= 2
    (level,) = lines[-1]
    assert level["rms_dbfs"] == pytest.approx(-23.0, abs=0.3)  # a sine's RMS lies 3 dB below its peak
    assert level["peak_dbfs"] == pytest.approx(-20.0, abs=0.3)
    assert (level["clipped_fraction"], level["problem"]) == (0, None)


def test_the_level_for_people_is_a_line_where_no_terminal_looks(
    rig: VirtualMicrophone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("devices", "--level", "name:mic", "--seconds", 4) == 0
    assert "1: silent, peak -120.0, silent (muted, or the wrong channel?)" in capsys.readouterr().out.splitlines()


def test_a_meter_for_no_microphone_is_one_line(rig: VirtualMicrophone) -> None:
    with pytest.raises(SourceError, match=r"^microphone usb:1234:5678: absent: not plugged in$"):
        run("devices", "--level", "usb:1234:5678", "--seconds", 4)


def test_a_device_that_portaudio_leaves_out_because_the_service_has_it_is_listed() -> None:
    other = USB._replace(name="mic", usb=None, selector="name:mic")
    shared = [
        SharedMicrophone("usb:2752:0007", USB, "…", None),
        SharedMicrophone("name:mic", other, "…", None),
        SharedMicrophone("name:gone", None, None, "absent"),
    ]
    assert merge([other], shared) == [other, USB]


@pytest.mark.parametrize("selector", ["name:umik", "usb:2752:0007", "usb:2752:0007:7001234", "usb-port:1-1.2"])
def test_a_shared_microphone_is_found_by_any_of_its_selectors(selector: str) -> None:
    shared = [
        SharedMicrophone("name:gone", None, None, "absent: no such microphone; present: none"),
        SharedMicrophone("usb:2752:0007", USB, "…", None),
    ]
    assert find_shared(shared, selector) == shared[1]
    assert find_shared(shared, "name:gone") == shared[0]
    assert find_shared(shared, "default") is None
    assert find_shared(shared, "name:other") is None


def test_each_channel_has_its_level_and_its_trouble() -> None:
    t = np.arange(48_000) / 48_000
    sine = np.sin(2 * np.pi * 440 * t)
    frames = np.stack((0.5 * sine, 0 * sine, np.clip(3 * sine, -1, 1), 1e-4 * sine), axis=1).astype(np.float32)
    good, silent, clipped, quiet = levels(frames)
    assert good.problem is None
    assert good.rms_dbfs == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=0.01)
    assert good.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert silent.problem is not None and silent.problem.startswith("silent")
    assert clipped.problem is not None and clipped.problem.startswith("clipped")
    assert clipped.clipped_fraction == pytest.approx(1 - 2 * math.asin(1 / 3) / math.pi, abs=0.01)
    assert quiet.problem is not None and quiet.problem.startswith("below -70 dBFS")
