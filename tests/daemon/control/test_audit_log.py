"""Every command from the network leaves a line, and those that change detection can be forbidden."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.daemon.control import audit_log
from monitor.daemon.control.audit_log import AuditLog
from tests.daemon.deaf_fan import Service, running_service
from tests.waiting import wait_until


@pytest.fixture
def service(tmp_path: Path, demo_bundle: Path, demo_fault: Path) -> Iterator[Service]:
    with running_service(tmp_path, demo_bundle, demo_fault) as running:
        yield running


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_commands_that_change_detection_are_forbidden_by_one_setting_and_all_leave_a_line(service: Service) -> None:
    service.configure("fan", more="remote_changes: false")
    service.daemon.start().ready()
    path = service.daemon.folder / "state" / "commands.log"
    service.until_state(state="anomaly", severity="alarm")
    for command, payload in (
        ("disable", "{}"),
        ("enable", "{}"),
        ("calibrate", '{"force": true}'),
        ("calibrate", '{"undo": true}'),
        ("calibrate", '{"reference": true}'),
    ):
        answer = service.order(command, payload)
        assert "forbidden by the configuration (remote_changes: false)" in answer["reason"]
    for command in ("snooze", "ack"):
        assert service.order(command)["accepted"]
    assert service.order("clip", "not JSON\x1b[2J")["reason"] == "the payload must be a JSON object, at least {}"
    wait_until(lambda: len(read(path)) == 8)
    lines = read(path)
    assert [line["accepted"] for line in lines] == [False] * 5 + [True] * 2 + [False]
    assert (lines[2]["machine"], lines[2]["command"], lines[2]["payload"]) == ("fan", "calibrate", '{"force": true}')
    assert lines[-1]["payload"] == "not JSON?[2J"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    service.configure("fan")  # the setting takes effect with a reload
    service.daemon.signal(1)
    service.until(lambda: "reloaded" in service.daemon.log, "the reload")
    assert service.order("disable")["accepted"]
    service.daemon.stop()
    assert read(path)[-1]["command"] == "disable"


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MAX_BYTES", 10_000)
    log = AuditLog(tmp_path / "commands.log")
    for number in range(2_000):
        log.record({"number": number, "text": "\ud800"})
        if number % 10 == 9:
            log.close(10.0)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"commands.log", "commands.log.1"}
    assert all(size < 11_000 for size in sizes.values())
    assert read(tmp_path / "commands.log")[-1]["number"] == 1_999 or not sizes["commands.log"]


def test_a_flood_between_two_writes_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MAX_WAITING", 100)
    log = AuditLog(tmp_path / "commands.log")
    for number in range(1_000):
        log.record({"number": number})
    log.close(10.0)
    assert len(read(tmp_path / "commands.log")) == 100


def test_a_link_in_its_place_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "target").write_text("")
    (tmp_path / "commands.log").symlink_to("target")
    log = AuditLog(tmp_path / "commands.log")
    log.record({"number": 1})
    log.close(10.0)
    assert (tmp_path / "target").read_text() == ""
    assert "commands.log cannot be written, its lines are lost: is a link" in caplog.text
