"""What the service remembers over a restart beside events: how alarms are, and which topics it has filled."""

import logging
import math
import threading
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from monitor.sinks.whole_file import write_whole

log = logging.getLogger(__name__)
RETRY_S = 60.0  # after the disk did not take it


class KeptAlarm(BaseModel):
    """One machine's, where it differs from that of a machine that has always been well."""

    model_config = ConfigDict(frozen=True)

    acknowledged: bool = False
    snoozed_until: float | None = None  # s since 1970
    flooding: bool = False
    starts: tuple[float, ...] = ()  # of the latest anomalies, s since 1970
    disabled: bool = False


class Kept(BaseModel):
    """The whole file. Keys of a later version are passed over."""

    model_config = ConfigDict(frozen=True)

    alarms: dict[str, KeptAlarm] = {}
    topics: frozenset[str] = frozenset()  # retained ones


class Keepsake:
    """A small file, written whole and only on change, by a thread that lives as long as there is something to write.

    What the disk did not take is tried again with the next change, after a minute, and in the end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._latest = self.found = self._read()
        self._thread: threading.Thread | None = None  # while it has something to write
        self._again_at = math.inf  # monotonic, s; finite where the disk did not take the latest

    def keep(self, kept: Kept) -> None:
        """Write it if it is new; returns at once."""
        with self._lock:
            if kept == self._latest and time.monotonic() < self._again_at:
                return
            self._latest = kept
            self._have_written()

    def close(self, timeout_s: float) -> None:
        """Wait until it is written, unless the disk stalls for longer."""
        with self._lock:
            if self._again_at < math.inf:
                self._have_written()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _have_written(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="kept", daemon=True)
            self._thread.start()

    def _read(self) -> Kept:
        try:
            return Kept.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Kept()
        except (OSError, ValidationError) as error:
            log.error(
                "%s cannot be read, acknowledgements, snoozes, floods and disabled machines are forgotten: %s", self._path, error
            )
            return Kept()

    def _write_all(self) -> None:
        written = None
        while True:
            with self._lock:
                if self._latest == written:
                    self._thread = None
                    return
                written = self._latest
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._path, written.model_dump_json().encode())
            except OSError as error:
                if self._again_at == math.inf:
                    log.error("%s cannot be written, a restart will bring back what it says: %s", self._path, error.strerror)
                self._again_at = time.monotonic() + RETRY_S
            else:
                if self._again_at < math.inf:
                    log.info("%s is written again", self._path)
                self._again_at = math.inf
