"""`monitor check-config` prints the effective settings and one line for each problem."""

from pathlib import Path

import pytest
import yaml

from monitor.audio.devices import Device
from monitor.cli.checking.check_config import check, misfits
from monitor.config import MachineConfig
from tests.daemon.daemon_process import DaemonProcess
from tests.rig import VirtualMicrophone
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/stethos")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/stethos")


def write(folder: Path, text: str) -> Path:
    path = folder / "monitor.yaml"
    path.write_text(text)
    return path


def errors(log: pytest.LogCaptureFixture) -> list[str]:
    return [line.removeprefix("monitor: error: ") for line in log.messages if "warning: " not in line]


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    return [line.removeprefix("monitor: warning: ") for line in log.messages if "warning: " in line]


def test_the_effective_settings_are_yaml_that_gives_the_same_settings(
    tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STETHOS_MQTT__PORT", "1999")
    assert check(write(tmp_path, f"node: '007'\nmachines: {{fan: {{bundle: {demo_bundle}, channel: 2}}}}\n")) == 0
    printed = capsys.readouterr().out
    settings = yaml.safe_load(printed)
    assert (settings["node"], settings["mqtt"]["port"], settings["mqtt"]["prefix"]) == ("007", 1999, "stethos")
    assert settings["machines"]["fan"]["channel"] == 2
    assert settings["machines"]["fan"]["idle"] == {"below_dbfs": "learned", "means": "idle"}
    assert check(write(tmp_path, printed)) == 0
    assert capsys.readouterr().out == printed


def test_each_bundle_is_loaded_and_described(tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"node: hall\nmachines:\n  a: {{bundle: {demo_bundle}}}\n  b: {{bundle: {demo_bundle}, microphone: 'index:2'}}\n"
    assert check(write(tmp_path, text)) == 0
    a, b = (line for line in capsys.readouterr().out.splitlines() if line.startswith("# "))
    assert a.startswith("# a: demo-fan@")
    assert a.endswith("16000 Hz, threshold 3.942 set on 7.98 min of normal sound")
    assert b.endswith("; index:2 may be another microphone after the next boot; see monitor devices")


def test_every_wrong_key_has_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "nodes: hall\nmqtt: {port: 0}\nmachines: {fan: {bundle: b, channel: none}}\n")
    assert check(path) == 78
    assert capsys.readouterr().out == ""
    assert errors(caplog) == [
        f"{path}: mqtt.port must be in 1..65535, got 0",
        f"{path}: machines.fan.channel must be a whole number, got none",
        f"{path}: nodes is not a setting, did you mean node?",
    ]


def test_every_missing_file_has_its_line(
    tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{}")
    text = f"""
node: hall
mqtt: {{tls: {{ca: ca.pem}}, user: fan, password_file: /nowhere/password}}
machines:
  gone: {{bundle: gone}}
  good: {{bundle: {demo_bundle}}}
  broken: {{bundle: broken}}
"""
    assert check(write(tmp_path, text)) == 78
    assert "# good: demo-fan@" in capsys.readouterr().out
    assert [line.split(": ")[0] for line in errors(caplog)] == [
        "mqtt.password_file",
        "mqtt.tls.ca",
        "machines.gone.bundle",
        "machines.broken.bundle",
    ]
    assert errors(caplog)[0] == "mqtt.password_file: /nowhere/password cannot be read: No such file or directory"


def test_no_machine_is_a_problem(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert check(write(tmp_path, "node: hall\nmachines:\n")) == 78
    assert errors(caplog) == ["no machine is configured; run: sudo monitor setup"]


def test_the_password_itself_is_never_printed(
    tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    text = f"node: hall\nmqtt: {{user: fan, password_file: secret}}\nmachines: {{fan: {{bundle: {demo_bundle}}}}}\n"
    assert check(write(tmp_path, text)) == 0
    printed = capsys.readouterr()
    assert str(secret) in printed.out
    assert "hunter2" not in printed.out + printed.err + caplog.text


def test_a_missing_file_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert check(tmp_path / "nowhere.yaml") == 78
    assert errors(caplog) == [f"{tmp_path}/nowhere.yaml: cannot be read: No such file or directory"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "machines: {{fan: {{bundle: {0}}}}}",
            "node must be set (replay is a default): this computer's name in topics and events",
        ),
        (
            "node: hall\nmachines: {{fan: {{bundle: {0}, idle: {{means: anomaly}}}}}}",
            "machines.fan.idle.below_dbfs must be a level in dBFS where idle means anomaly: the bundle has learned none",
        ),
    ],
)
def test_settings_that_the_service_refuses_are_problems(
    tmp_path: Path, bundle_without_level: Path, caplog: pytest.LogCaptureFixture, text: str, problem: str
) -> None:
    path = write(tmp_path, text.format(bundle_without_level))
    assert check(path) == 78
    assert errors(caplog) == [problem]
    service = DaemonProcess(tmp_path, {})
    with service:
        service.start()
        wait_until(lambda: service.status is not None, within_s=20.0, what="its end")
        assert (service.status, service.log) == (78, f"monitor: error: {problem}\n")


def test_a_missing_or_empty_credential_is_a_problem(
    tmp_path: Path, demo_bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"node: hall\nmqtt: {{user: fan, password_credential: secret}}\nmachines: {{fan: {{bundle: {demo_bundle}}}}}\n"
    monkeypatch.setattr("monitor.cli.checking.check_config.SECRETS", tmp_path)  # as in a shell
    assert check(write(tmp_path, text)) == 78
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))  # as in the service
    (tmp_path / "secret").write_text("\n")
    assert check(write(tmp_path, text)) == 78
    (tmp_path / "secret").write_text("hunter2\n")
    assert check(write(tmp_path, text)) == 0
    path = f"mqtt.password_credential: {tmp_path}/secret"
    assert errors(caplog) == [f"{path} cannot be read: No such file or directory", f"{path} is empty"]


def test_a_rate_below_the_bundles_bands_is_a_problem(tmp_path: Path, demo_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = f"node: hall\nmachines: {{fan: {{bundle: {demo_bundle}, microphone_rate_hz: %d}}}}\n"
    assert check(write(tmp_path, text % 48_000)) == check(write(tmp_path, text % 16_000)) == 0
    assert check(write(tmp_path, text % 8_000)) == 78
    assert errors(caplog) == [
        "machines.fan.microphone_rate_hz must be at least 16000 for this bundle, got 8000: 14 of its 64 bands lie above 4000 Hz"
    ]


def test_a_selector_that_matches_no_microphone_is_a_warning(
    tmp_path: Path, rig: VirtualMicrophone, demo_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"node: hall\nmachines: {{fan: {{bundle: {demo_bundle}, microphone: '%s', channel: %d}}}}\n"
    assert check(write(tmp_path, text % ("name:mic", 1))) == 0
    assert warnings(caplog) == []
    assert check(write(tmp_path, text % ("usb:1234:5678", 1))) == 0
    assert check(write(tmp_path, text % ("name:mic", 250))) == 0
    absent, channel = warnings(caplog)
    assert absent.startswith("machines.fan.microphone: usb:1234:5678: no such microphone; present: ")
    assert channel.startswith("machines.fan.channel must be in 1..")


def test_rates_and_channels_are_those_of_the_device() -> None:
    machine = MachineConfig(bundle=Path("b"), channel=3, microphone_rate_hz=22_050)
    usb = Device(0, "USB: Audio (hw:1,0)", "ALSA", 2, 48_000, (44_100, 48_000), False, None, "index:0")
    assert list(misfits(machine, usb)) == [
        "channel must be in 1..2 for USB: Audio (hw:1,0), got 3",
        "microphone_rate_hz must be one of 44100, 48000 for USB: Audio (hw:1,0), got 22050",
    ]
    assert list(misfits(machine, usb._replace(name="pulse", n_channels=32))) == []  # it converts
    assert list(misfits(MachineConfig(bundle=Path("b")), usb)) == []
