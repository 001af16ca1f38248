"""What survives a restart beside events: a file that is whole, written on change only, and never waited for."""

import logging
import threading
from pathlib import Path

import pytest

from monitor.service.kept import Keepsake, Kept, KeptAlarm

SOME = Kept(alarms={"fan": KeptAlarm(acknowledged=True, snoozed_until=1.8e9)}, topics=frozenset({"stethos/pi/fan/state"}))


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    keepsake = Keepsake(tmp_path / "state" / "kept.json")
    assert keepsake.found == Kept()
    keepsake.keep(SOME)
    keepsake.close(5.0)
    assert Keepsake(tmp_path / "state" / "kept.json").found == SOME
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["kept.json"]


def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    keepsake = Keepsake(path)
    for _ in range(3):
        keepsake.keep(Kept())
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
    keepsake = Keepsake(tmp_path / "kept.json")
    for number in range(300):
        keepsake.keep(Kept(alarms={"fan": KeptAlarm(snoozed_until=number)}))
    keepsake.close(20.0)
    assert Keepsake(tmp_path / "kept.json").found.alarms["fan"].snoozed_until == 299
    assert "kept" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"alarms": 3}', b"\xff" * 100])
def test_a_file_that_is_damaged_is_said_and_replaced(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(content)
    keepsake = Keepsake(path)
    assert keepsake.found == Kept()
    assert "kept.json cannot be read" in caplog.text
    keepsake.keep(SOME)
    keepsake.close(5.0)
    assert Keepsake(path).found == SOME


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    (tmp_path / "state").write_text("no folder")
    keepsake = Keepsake(tmp_path / "state" / "kept.json")
    keepsake.keep(SOME)
    keepsake.close(5.0)
    assert "cannot be written" in caplog.text
    (tmp_path / "state").unlink()
    keepsake.keep(Kept())
    keepsake.close(5.0)
    assert (tmp_path / "state" / "kept.json").exists()


def test_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text('{"alarms": {"fan": {"disabled": true, "new": 1}}, "newer": []}')
    assert Keepsake(tmp_path / "kept.json").found.alarms == {"fan": KeptAlarm(disabled=True)}
