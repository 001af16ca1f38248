"""Log lines on stderr. In the systemd journal they have a priority (sd-daemon(3)): `journalctl -p err` finds errors."""

import logging
import os
from collections.abc import Mapping
from typing import TextIO

from monitor.errors import printable

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # of syslog(3)
_DEBUG = 7


class LineFormatter(logging.Formatter):
    """Makes each message one printable line, because names of files and other texts from outside may contain anything."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (named by `logging`)
        """The message without its traceback."""
        return printable(super().formatMessage(record))


class JournalFormatter(LineFormatter):
    """Prefixes every line of a record with `<N>`, because the journal splits tracebacks into lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The prefixed lines."""
        priority = next((priority for level, priority in _PRIORITIES if record.levelno >= level), _DEBUG)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines() or [""])


def is_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream goes to the journal. systemd sets JOURNAL_STREAM to its device and inode (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # not a file
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
