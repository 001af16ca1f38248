"""A limit for the log: a condition outside, such as a flapping broker, must not fill the disk with lines.

A call whose text depends on others, such as clients, the broker or the content of files, passes `extra=of_kind("…")`.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_S = 60.0
BURST = 10  # lines of one kind with different texts, for example one per machine
MAX_KINDS = 1_000


@dataclass
class _Kind:
    credit: float
    at: float  # when the credit was last updated
    n_suppressed: int = 0


def of_kind(kind: str) -> dict[str, str]:
    """The `extra` of a record of which one a minute passes, whatever its text. There must be few kinds."""
    return {"kind": kind}


class LogLimit(logging.Filter):
    """Passes a text once a minute, and of the records of one kind only one.

    Of other lines with one template (logger and unformatted message), it passes ten, then one a minute.

    The next line that passes states how many were suppressed. Add it to a handler, so that it applies to all loggers.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._lock = threading.Lock()  # handlers call their filters without one
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        with self._lock:
            return self._passes(record)

    def _passes(self, record: logging.LogRecord) -> bool:
        name = getattr(record, "kind", None)
        template = f"{record.name}:{record.msg if name is None else name}"
        buckets = [self._kind(template, BURST if name is None else 1)]
        if name is None and buckets[0].credit >= 1:
            buckets.append(self._kind(f"{template}{record.args}", 1))
        kind = buckets[0]
        if any(bucket.credit < 1 for bucket in buckets):
            kind.n_suppressed += 1
            return False
        for bucket in buckets:
            bucket.credit -= 1
        if kind.n_suppressed:
            lines = "line" if kind.n_suppressed == 1 else "lines"
            record.msg = f"{record.msg} ({kind.n_suppressed} similar {lines} suppressed)"
            kind.n_suppressed = 0
        return True

    def _kind(self, key: str, burst: int) -> _Kind:
        now = self._now()
        kind = self._kinds.setdefault(key, _Kind(credit=burst, at=now))
        kind.credit = min(burst, kind.credit + (now - kind.at) / INTERVAL_S)
        kind.at = now
        self._kinds.move_to_end(key)
        if len(self._kinds) > MAX_KINDS:
            self._kinds.popitem(last=False)
        return kind
