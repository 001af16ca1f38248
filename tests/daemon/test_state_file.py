"""What survives a restart beside events: a file that is whole, written on change only, and never waited for."""

import logging
import threading
import time
from pathlib import Path

import pytest

from monitor.daemon import state_file as kept
from monitor.daemon.state_file import AlarmState, ServiceState, StateFile
from tests.waiting import wait_until

SOME = ServiceState(
    alarms={"fan": AlarmState(acknowledged=True, snoozed_until=1.8e9)}, topics=frozenset({"stethos/pi/fan/state"})
)


def kept_in(path: Path) -> StateFile[ServiceState]:
    return StateFile(path, ServiceState(), what="acknowledgements")


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    keepsake = kept_in(tmp_path / "state" / "kept.json")
    assert keepsake.loaded == ServiceState()
    keepsake.keep(SOME)
    keepsake.close(5.0)
    assert kept_in(tmp_path / "state" / "kept.json").loaded == SOME
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["kept.json"]


def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    keepsake = kept_in(path)
    for _ in range(3):
        keepsake.keep(ServiceState())
    keepsake.close(5.0)
    assert not path.exists()
    keepsake.keep(SOME)
    keepsake.close(5.0)
    written = path.stat()
    for _ in range(3):
        keepsake.keep(SOME)
    keepsake.close(5.0)
    assert path.stat() == written


def test_the_last_of_many_is_what_stays(tmp_path: Path) -> None:
    keepsake = kept_in(tmp_path / "kept.json")
    for number in range(300):
        keepsake.keep(ServiceState(alarms={"fan": AlarmState(snoozed_until=number)}))
    keepsake.close(20.0)
    assert kept_in(tmp_path / "kept.json").loaded.alarms["fan"].snoozed_until == 299
    assert "kept" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"alarms": 3}', b"\xff" * 100])
def test_a_file_that_is_damaged_is_said_and_replaced(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(content)
    keepsake = kept_in(path)
    assert keepsake.loaded == ServiceState()
    assert "kept.json cannot be read" in caplog.text
    keepsake.keep(SOME)
    keepsake.close(5.0)
    assert kept_in(path).loaded == SOME


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    (tmp_path / "state").write_text("no folder")
    keepsake = kept_in(tmp_path / "state" / "kept.json")
    keepsake.keep(SOME)
    keepsake.close(5.0)
    assert "cannot be written" in caplog.text
    (tmp_path / "state").unlink()
    keepsake.keep(ServiceState())
    keepsake.close(5.0)
    assert (tmp_path / "state" / "kept.json").exists()


@pytest.mark.parametrize("how", ["with time", "in the end"])
def test_what_the_disk_did_not_take_is_written_later(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(kept, "RETRY_S", 0.05 if how == "with time" else 1000.0)
    (tmp_path / "state").write_text("no folder")
    keepsake = kept_in(tmp_path / "state" / "kept.json")
    for _ in range(10):
        keepsake.keep(SOME)
        time.sleep(0.02)
    (tmp_path / "state").unlink()
    if how == "with time":
        time.sleep(0.1)
        keepsake.keep(SOME)
        wait_until((tmp_path / "state" / "kept.json").exists)
    keepsake.close(5.0)
    assert kept_in(tmp_path / "state" / "kept.json").loaded == SOME
    assert [message.rpartition("kept.json ")[2] for message in caplog.messages[1:]] == [  # at first it could not be read
        "cannot be written, a restart will bring back what it says: File exists",
        "is written again",
    ]


def test_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text('{"alarms": {"fan": {"disabled": true, "new": 1}}, "newer": []}')
    assert kept_in(tmp_path / "kept.json").loaded.alarms == {"fan": AlarmState(disabled=True)}
