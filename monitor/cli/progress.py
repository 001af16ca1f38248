"""Print log lines above a progress bar, like `tqdm.contrib.logging` but without importing asyncio and ssl."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm


class _AboveBars(logging.StreamHandler):  # type: ignore[type-arg]  # not subscriptable in Python 3.10
    def __init__(self, usual: "logging.StreamHandler[TextIO]") -> None:
        super().__init__(usual.stream)
        self.setFormatter(usual.formatter)

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


@contextmanager
def logs_above_progress() -> Iterator[None]:
    """Inside this context, progress bars are cleared before each log line and redrawn after it."""
    root = logging.getLogger()
    usual = root.handlers
    root.handlers = [handler if type(handler) is not logging.StreamHandler else _AboveBars(handler) for handler in usual]
    try:
        yield
    finally:
        root.handlers = usual
