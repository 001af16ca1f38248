"""Print log lines above a progress bar, like `tqdm.contrib.logging` but without importing asyncio and ssl."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm


class _AboveBars(logging.StreamHandler):  # type: ignore[type-arg]  # not subscriptable in Python 3.10
    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


@contextmanager
def logs_above_progress() -> Iterator[None]:
    """Inside this context, progress bars are cleared before each log line and redrawn after it."""
    root = logging.getLogger()
    usual = root.handlers
    root.handlers = [_above(handler) if type(handler) is logging.StreamHandler else handler for handler in usual]
    try:
        yield
    finally:
        root.handlers = usual


def _above(handler: "logging.StreamHandler[TextIO]") -> _AboveBars:
    above = _AboveBars(handler.stream)
    above.setFormatter(handler.formatter)
    return above
