"""The archive for a bug report contains the facts and none of the planted secrets."""

import asyncio
import json
import socket
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.audio.devices import Device, Usb
from monitor.cli.checking.redact import Redactor
from monitor.daemon.control.socket import NAME, ControlServer, Reply
from monitor.errors import UsageError
from tests.cli.tool import run

PASSWORD, USER, BROKER = "hunter2-Wq!x", "karl.kessel", "broker.factory.example"
SECRETS = (PASSWORD, USER, BROKER, "anna", "s3cr3t", "192.168.7.31", "fe80::1234", "kessel@", "tokentoken", "nas.local")


@pytest.fixture
def place(tmp_path: Path, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with a secret in every possible place."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for file in demo_bundle.iterdir():
        if file.is_file():
            (bundle / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["provenance"]["recipe"] = f"/home/anna/recipes/fan.yaml by {USER}@factory.example on nas.local"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "password").write_text(PASSWORD + "\n")
    mqtt = {"host": BROKER, "user": USER, "password_file": str(tmp_path / "password"), "plain_text": "allowed"}
    config = {
        "node": "workshop",
        "runtime_dir": str(tmp_path / "run"),
        "state_dir": str(tmp_path),
        "mqtt": mqtt,
        "machines": {"fan": {"bundle": str(bundle), "name": f"Fan of {USER}"}},
    }
    (tmp_path / "monitor.yaml").write_text(yaml.safe_dump(config))
    programs = tmp_path / "bin"
    programs.mkdir()
    said = f"connected to {BROKER} (192.168.7.31, fe80::1234) as {USER} password={PASSWORD} mqtts://u:s3cr3t@{BROKER}/"
    said += f" on {socket.gethostname()}"
    for name, text in (("journalctl", f"2026-11-21T10:00:00 monitor: {said}"), ("systemctl", f"StatusText=fan normal; {said}")):
        (programs / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nAuthorization: Bearer tokentoken\nEND\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("STETHOS_MQTT__USER", USER)
    monkeypatch.setenv("SUDO_USER", "anna")
    return tmp_path


@contextmanager
def serving(path: Path, body: dict[str, Any]) -> Iterator[None]:
    """A control socket that answers `status` with this body."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = ControlServer(path, {"status": lambda _: Reply(body)})
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def service(place: Path) -> Iterator[None]:
    """A service whose answers contain secrets."""
    body = {"machines": {"fan": {"state": "normal"}}, "last_error": f"{BROKER} refuses {USER}", "token": "s3cr3t"}
    with serving(place / "run" / NAME, body):
        yield


def contents(path: Path) -> dict[str, str]:
    """The archive's files by their names under its one folder."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name.partition("/")[2]: archive.read(name).decode() for name in archive.namelist()}
    files = {}
    with tarfile.open(path) as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            assert file is not None
            assert (entry.uname, entry.gname, entry.uid) == ("", "", 0)
            files[entry.name.partition("/")[2]] = file.read().decode()
    return files


@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
def test_the_archive_holds_facts_and_no_secret(place: Path, service: None, suffix: str) -> None:
    out = place / f"report.{suffix}"
    assert run("support", "--config", place / "monitor.yaml", "--out", out) == 0
    files = contents(out)
    everything = "\n".join([*files, *files.values()])
    for secret in (*SECRETS, socket.gethostname()):
        assert secret not in everything, secret
    assert json.loads(files["versions.json"])["stethos"]
    assert json.loads(files["bundles/fan.json"])["name"] == "demo-fan"
    assert json.loads(files["status.json"])["machines"] == {"fan": {"state": "normal"}}
    config = json.loads(files["config.json"])
    assert (config["node"], config["mqtt"]["host"], config["mqtt"]["user"]) == ("workshop", "<host>", "<user>")
    assert config["mqtt"]["password_file"] == "<hidden>"
    assert files["journal.txt"].startswith("2026-11-21T10:00:00 monitor: connected to <host> (<address>, <address>) as <user>")
    assert "StatusText=fan normal" in files["systemd.txt"]
    assert json.loads(files["environment.json"]) == ["STETHOS_MQTT__USER"]
    assert json.loads(files["computer.json"])["memory_mb"]["total"] > 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_password_in_the_wrong_place_is_hidden(place: Path) -> None:
    (place / "monitor.yaml").write_text(f"mqtt: {{password: {PASSWORD}}}\nmachines: {{fan: {{bundle: [{PASSWORD}}}\n")
    assert run("support", "--config", place / "monitor.yaml", "--out", place / "report.zip") == 0
    files = contents(place / "report.zip")
    assert "is not YAML" in json.loads(files["config.json"])["error"]
    (place / "monitor.yaml").write_text(f"mqtt: {{password: {PASSWORD}}}\n")
    assert run("support", "--config", place / "monitor.yaml", "--out", place / "second.zip") == 0
    files |= {f"second/{name}": text for name, text in contents(place / "second.zip").items()}
    assert "password" in json.loads(files["second/config.json"])["error"]
    assert PASSWORD not in "\n".join(files.values())


def test_a_fact_that_cannot_be_collected_has_its_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place))
    (place / "bundle" / "manifest.json").unlink()
    assert run("support", "--config", place / "monitor.yaml", "--out", place / "report.zip") == 0
    files = contents(place / "report.zip")
    assert json.loads(files["status.json"]) == {"error": "the service is not running"}
    assert "No such file" in json.loads(files["journal.txt"])["error"]
    assert "manifest.json" in json.loads(files["bundles/fan.json"])["error"]


def test_a_command_that_hangs_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.cli.checking.support.COMMAND_S", 0.3)
    (place / "bin" / "journalctl").write_text("#!/bin/sh\nexec sleep 60\n")
    assert run("support", "--config", place / "monitor.yaml", "--out", place / "report.zip") == 0
    assert "timed out" in json.loads(contents(place / "report.zip")["journal.txt"])["error"]


def test_no_file_is_overwritten(place: Path) -> None:
    (place / "report.zip").write_text("mine")
    with pytest.raises(UsageError, match="--out must be a new file"):
        run("support", "--config", place / "monitor.yaml", "--out", place / "report.zip")
    assert (place / "report.zip").read_text() == "mine"
    with pytest.raises(UsageError, match=r"--out must end with \.tar\.gz or \.zip, got report\.rar"):
        run("support", "--out", place / "report.rar")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("password: hunter2, next", "password: <hidden>, next"),
        ('{"api_key": "a b c"}', '{"api_key": <hidden>}'),
        ("STETHOS_MQTT__PASSWORD=x y", "STETHOS_MQTT__PASSWORD=<hidden> y"),
        ("Karl's pi at karl, karlsruhe", "<user>'s pi at <user>, karlsruhe"),
        ("10.0.0.1:1883 and 127.0.0.1 and 1.2.3", "<address>:1883 and 127.0.0.1 and 1.2.3"),
        ("dc:a6:32:01:02:03 at 12:34:56", "<address> at 12:34:56"),
        ("usb:2752:0007:7001", "usb:2752:0007:<serial>"),
        ("microphone usb:2752:0007: lost", "microphone usb:2752:0007: lost"),
        ("usb-port:1-1.2", "usb-port:1-1.2"),
        ("Serial Number: 00000000a1b2c3d4", "Serial Number: <serial>"),
        ("stethos_karl_fan, karl-pi", "stethos_<user>_fan, <user>-pi"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "<hidden>"),
    ],
)
def test_text_is_redacted_and_facts_stay(text: str, redacted: str) -> None:
    assert Redactor({"karl": "<user>"}).text(text) == redacted


def test_the_host_and_the_serial_numbers_are_hidden_in_every_spelling(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usb = Usb("0d8c", "0014", "A1B2C3D4", "1-1.2")
    name = "alsa_input.usb-Blue_Yeti_REV8_A1B2C3D4-00.analog"
    device = Device(0, name, "ALSA", 2, 48_000, (), False, usb, "usb:0d8c:0014:A1B2C3D4")
    monkeypatch.setattr("monitor.cli.checking.support.list_devices", lambda: [device])
    monkeypatch.setattr("monitor.cli.checking.redact._SERIALS", (str(place / "sys" / "*" / "serial"),))
    (place / "sys" / "1-1").mkdir(parents=True)
    (place / "sys" / "1-1" / "serial").write_text("A1B2C3D4\n")
    monkeypatch.setattr(socket, "gethostname", lambda: "Halle-3.factory.example")
    text = (place / "monitor.yaml").read_text().replace("node: workshop", "node: halle_3")
    (place / "monitor.yaml").write_text(text.replace("  fan:\n", "  fan:\n    microphone: usb:0d8c:0014:A1B2C3D4\n"))
    said = "homeassistant/device/stethos_halle_3_fan halle-3 HALLE-3.factory.example halle_3/fan id A1B2C3D4"
    (place / "bin" / "journalctl").write_text(f"#!/bin/sh\necho {said}\n")
    assert run("support", "--config", place / "monitor.yaml", "--out", place / "report.zip") == 0
    files = contents(place / "report.zip")
    everything = "\n".join(files.values()).casefold()
    assert "halle" not in everything
    assert "a1b2c3d4" not in everything
    (listed,) = json.loads(files["devices.json"])
    assert (listed["usb"]["serial"], listed["usb"]["vendor"], listed["selector"]) == (
        "<serial>",
        "0d8c",
        "usb:0d8c:0014:<serial>",
    )
    assert json.loads(files["config.json"])["machines"]["fan"]["microphone"] == "usb:0d8c:0014:<serial>"
    assert files["journal.txt"] == "homeassistant/device/stethos_<host>_fan <host> <host> <host>/fan id <serial>\n"
