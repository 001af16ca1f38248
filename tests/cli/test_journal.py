"""Under systemd each log line carries its priority."""

import logging
import os
import subprocess
import sys

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
