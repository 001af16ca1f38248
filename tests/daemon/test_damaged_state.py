"""State files are data: an invalid value is refused and logged, and only regular files are read."""

import json
import os
import re
from pathlib import Path

import pytest

from monitor.files import read_regular
from tests.daemon.mutants import adapted, kept, valid


@pytest.mark.parametrize("value", ["NaN", "1e300", "-1", "Infinity", "1e999"])
def test_a_time_that_is_none_is_refused_and_logged(value: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text(f'{{"alarms": {{"fan": {{"snoozed_until": {value}}}}}}}')
    kept(tmp_path)
    (message,) = caplog.messages
    assert "file cannot be read, everything are lost: alarms.fan.snoozed_until: " in message
    assert "\n" not in message


def test_a_file_that_is_a_pipe_a_folder_a_link_or_too_large_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"x" * 1_001)
    (tmp_path / "link").symlink_to("/etc/hostname")
    for name in ("pipe", "folder", "large", "link", "/dev/zero"):
        with pytest.raises(OSError, match=r"regular|larger|link"):
            read_regular(tmp_path / name, max_bytes=1_000, within=tmp_path)
    assert len(read_regular(tmp_path / "large", max_bytes=1_001)) == 1_001


def test_the_bundle_named_in_a_state_file_is_logged_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = valid()["adapted"] | {"configured": "a\nb" + 200 * "x"}
    (tmp_path / "file").write_text(json.dumps(content))
    adapted(tmp_path)
    (message,) = caplog.messages
    assert message.startswith("fan: ignoring the adapted bundle: it was made from a\\nbxxx")
    assert re.search(r"x, but demo-fan@[0-9a-f]{12} is configured$", message)
    assert len(message) < 250
