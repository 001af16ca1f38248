"""`monitor check-config` prints the effective settings and one line for each problem."""

from pathlib import Path

import pytest
import yaml

from monitor.cli.check_config import check
from tests.daemon.daemon_process import DaemonProcess
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/stethos")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/stethos")


def write(folder: Path, text: str) -> Path:
    path = folder / "monitor.yaml"
    path.write_text(text)
    return path


def errors(text: str) -> list[str]:
    return [line.removeprefix("monitor: error: ") for line in text.splitlines()]


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
    assert a.endswith("16000 Hz, threshold 3.688 set on 8 min of normal sound")
    assert b.endswith("; index:2 may be another microphone after the next boot; see monitor devices")


def test_every_wrong_key_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "nodes: hall\nmqtt: {port: 0}\nmachines: {fan: {bundle: b, channel: none}}\n")
    assert check(path) == 78
    printed = capsys.readouterr()
    assert printed.out == ""
    assert errors(printed.err) == [
        f"{path}: mqtt.port must be in 1..65535, got 0",
        f"{path}: machines.fan.channel must be a whole number, got none",
        f"{path}: nodes is not a setting, did you mean node?",
    ]


def test_every_missing_file_has_its_line(tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    printed = capsys.readouterr()
    assert "# good: demo-fan@" in printed.out
    assert [line.split(": ")[0] for line in errors(printed.err)] == [
        "mqtt.password_file",
        "mqtt.tls.ca",
        "machines.gone.bundle",
        "machines.broken.bundle",
    ]
    assert "mqtt.password_file: /nowhere/password cannot be read" in printed.err


def test_no_machine_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(write(tmp_path, "node: hall\nmachines:\n")) == 78
    assert errors(capsys.readouterr().err) == ["no machine is configured"]


def test_the_password_itself_is_never_printed(tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    text = f"node: hall\nmqtt: {{user: fan, password_file: secret}}\nmachines: {{fan: {{bundle: {demo_bundle}}}}}\n"
    assert check(write(tmp_path, text)) == 0
    printed = capsys.readouterr()
    assert str(secret) in printed.out
    assert "hunter2" not in printed.out + printed.err


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path / "nowhere.yaml") == 78
    assert errors(capsys.readouterr().err) == [f"{tmp_path}/nowhere.yaml: cannot be read: No such file or directory"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("machines: {{fan: {{bundle: {0}}}}}", "node must be set: this computer's name in topics and events"),
        (
            "node: hall\nmachines: {{fan: {{bundle: {0}, idle: {{means: anomaly}}}}}}",
            "machines.fan.idle.below_dbfs must be a level in dBFS where idle means anomaly: the bundle has learned none",
        ),
    ],
)
def test_settings_that_the_service_refuses_are_problems(
    tmp_path: Path, bundle_without_level: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    path = write(tmp_path, text.format(bundle_without_level))
    assert check(path) == 78
    assert errors(capsys.readouterr().err) == [problem]
    service = DaemonProcess(tmp_path, {})
    with service:
        service.start()
        wait_until(lambda: service.status is not None, within_s=20.0, what="its end")
        assert (service.status, errors(service.log)) == (78, [problem])
