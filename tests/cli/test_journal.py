"""Under systemd each log line carries its priority."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.cli.journal import JournalFormatter


def run(*arguments: str, is_journal: bool) -> str:
    read_end, write_end = os.pipe()
    status = os.fstat(write_end)
    stream = f"{status.st_dev}:{status.st_ino}" if is_journal else "1:1"
    environment = {**os.environ, "JOURNAL_STREAM": stream}
    command = [sys.executable, "-m", "monitor.cli.main", *arguments]
    subprocess.run(command, stderr=write_end, env=environment, check=False)
    os.close(write_end)
    with os.fdopen(read_end) as stderr:
        return stderr.read()


def test_an_error_has_its_priority_in_the_journal_and_nowhere_else() -> None:
    assert run("--replay", "missing.wav", "--model", "missing", is_journal=True).startswith("<3>monitor: error: missing")
    assert run("--replay", "missing.wav", "--model", "missing", is_journal=False).startswith("monitor: error: missing")


@pytest.mark.parametrize("is_journal", [True, False])
def test_a_name_from_outside_cannot_make_lines_nor_control_the_terminal(
    is_journal: bool, tmp_path: Path, demo_normal: Path, demo_bundle: Path
) -> None:
    name = tmp_path / "a\n<2>monitor: error: no disk\x1b[2J\r\u2028.flac"
    name.write_bytes(demo_normal.read_bytes())
    text = run("--replay", str(name), "--model", str(demo_bundle), is_journal=is_journal)
    prefix = "<6>" if is_journal else ""
    assert text.splitlines()[-1].startswith(f"{prefix}{tmp_path}/a\\n<2>monitor: error: no disk\\x1b[2J\\r\\u2028.flac: normal")
    assert "\x1b" not in text


def test_every_line_of_a_traceback_has_its_priority() -> None:
    formatter = JournalFormatter("%(message)s")
    try:
        raise RuntimeError("a bug")
    except RuntimeError:
        record = logging.LogRecord("monitor", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    lines = formatter.format(record).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)
    levels = {logging.WARNING: "<4>", logging.INFO: "<6>", logging.DEBUG: "<7>"}
    for level, prefix in levels.items():
        assert formatter.format(logging.LogRecord("monitor", level, "", 1, "text", (), None)) == f"{prefix}text"
