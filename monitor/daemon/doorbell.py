"""The doorbell of updates: the retained message `bundle/desired` has stethos-update.path start `monitor update`.

Nothing in the message is trusted. The update asks the signed repository, whoever rang.
"""

import logging
import os
import queue
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ValidationError

from monitor.bundle.manifest import one_line
from monitor.events.event import from_rfc3339
from monitor.log_limit import of_kind
from monitor.mqtt.client import Received
from monitor.mqtt.messages import Desired

log = logging.getLogger(__name__)
NAME = "update-requested"  # in the runtime directory
EVERY_S = 60.0  # at most once
MAX_WAITING = 20


class Doorbell:
    """`arrive` may be called on any thread, `poll` on one."""

    def __init__(self, runtime_dir: Path) -> None:
        self._path = runtime_dir / NAME
        self._arrived: queue.Queue[Received] = queue.Queue(MAX_WAITING)
        self._due: datetime | None = None  # the request that is waiting
        self._may_ring_s = 0.0

    def arrive(self, message: Received) -> None:
        """Take note of a message. Surplus ones are dropped: one rings as well as many."""
        with suppress(queue.Full):
            self._arrived.put_nowait(message)

    def poll(self, now_s: float) -> None:
        """Ring if a request is due, at most once a minute."""
        while not self._arrived.empty():
            self._take(self._arrived.get_nowait())
        if self._due is None or datetime.now(timezone.utc) < self._due or now_s < self._may_ring_s:
            return
        self._due, self._may_ring_s = None, now_s + EVERY_S
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "w") as file:
                file.write(f"{time.time():.0f}\n")
            log.info("bundle/desired: an update is requested")
        except OSError as error:
            log.warning("%s: cannot be written: %s", self._path, error.strerror, extra=of_kind("doorbell"))

    def _take(self, message: Received) -> None:
        if not message.payload:  # the retained message was removed
            return
        try:
            if message.n_discarded:
                raise ValueError("the message is too large")
            wanted = Desired.model_validate_json(message.payload)
            at = datetime.now(timezone.utc) if wanted.not_before is None else from_rfc3339(wanted.not_before)
        except ValueError as error:
            reason = one_line(error) if isinstance(error, ValidationError) else str(error)
            log.warning("bundle/desired: ignored: %s", reason, extra=of_kind("doorbell"))
            return
        self._due = at
