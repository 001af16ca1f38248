"""Log lines for the systemd journal, prefixed with their priority (sd-daemon(3)) so that `journalctl -p err` finds errors."""

import logging
import os
from collections.abc import Mapping
from typing import TextIO

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # of syslog(3)
_DEBUG = 7


class JournalFormatter(logging.Formatter):
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
