"""What survives a restart beside events: a file that is whole, written on change only, and never waited for."""

import logging
import threading
import time
from pathlib import Path

import pytest

from monitor.daemon import state_file as module
from monitor.daemon.state_file import AlarmState, ServiceState, StateFile
from tests.waiting import wait_until

SOME = ServiceState(
    alarms={"fan": AlarmState(acknowledged=True, snoozed_until=1.8e9)}, topics=frozenset({"stethos/pi/fan/state"})
)


def state_file(path: Path) -> StateFile[ServiceState]:
    return StateFile(path, ServiceState(), what="acknowledgements")


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    file = state_file(tmp_path / "state" / "kept.json")
    assert file.loaded == ServiceState()
    file.save(SOME)
    file.close(5.0)
    assert state_file(tmp_path / "state" / "kept.json").loaded == SOME
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["kept.json"]


def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    file = state_file(path)
    for _ in range(3):
        file.save(ServiceState())
    file.close(5.0)
    assert not path.exists()
    file.save(SOME)
    file.close(5.0)
    written = path.stat()
    for _ in range(3):
        file.save(SOME)
    file.close(5.0)
    assert path.stat() == written


def test_the_last_of_many_is_what_stays(tmp_path: Path) -> None:
    file = state_file(tmp_path / "kept.json")
    for number in range(300):
        file.save(ServiceState(alarms={"fan": AlarmState(snoozed_until=number)}))
    file.close(20.0)
    assert state_file(tmp_path / "kept.json").loaded.alarms["fan"].snoozed_until == 299
    assert "kept.json" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"alarms": 3}', b"\xff" * 100])
def test_a_file_that_is_damaged_is_said_and_replaced(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(content)
    file = state_file(path)
    assert file.loaded == ServiceState()
    assert "kept.json cannot be read" in caplog.text
    file.save(SOME)
    file.close(5.0)
    assert state_file(path).loaded == SOME


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    (tmp_path / "state").write_text("no folder")
    file = state_file(tmp_path / "state" / "kept.json")
    file.save(SOME)
    file.close(5.0)
    assert "cannot be written" in caplog.text
    (tmp_path / "state").unlink()
    file.save(ServiceState())
    file.close(5.0)
    assert (tmp_path / "state" / "kept.json").exists()


@pytest.mark.parametrize("how", ["with time", "in the end"])
def test_what_the_disk_did_not_take_is_written_later(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "RETRY_S", 0.05 if how == "with time" else 1000.0)
    (tmp_path / "state").write_text("no folder")
    file = state_file(tmp_path / "state" / "kept.json")
    for _ in range(10):
        file.save(SOME)
        time.sleep(0.02)
    (tmp_path / "state").unlink()
    if how == "with time":
        time.sleep(0.1)
        file.save(SOME)
        wait_until((tmp_path / "state" / "kept.json").exists)
    file.close(5.0)
    assert state_file(tmp_path / "state" / "kept.json").loaded == SOME
    path = tmp_path / "state" / "kept.json"
    assert caplog.messages[1] == f"kept.json: {path} cannot be written, a restart loses the changes: File exists"
    assert caplog.messages[-1].startswith("kept.json: written again; failed so far: ")


def test_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text('{"alarms": {"fan": {"disabled": true, "new": 1}}, "newer": []}')
    assert state_file(tmp_path / "kept.json").loaded.alarms == {"fan": AlarmState(disabled=True)}
