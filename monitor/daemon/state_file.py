"""What the service remembers over a restart beside events: how alarms are, and which topics it has filled."""

import logging
import math
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from monitor.events.slow_path import MINUTES, N_BLOCKS, SlowState
from monitor.files import atomic_write

log = logging.getLogger(__name__)
Content = TypeVar("Content", bound=BaseModel)
Finite = Annotated[float, Field(allow_inf_nan=False)]
ANY_CONDITION = "any"
RETRY_S = 60.0  # after the disk did not take it


class AlarmState(BaseModel):
    """One machine's, where it differs from that of a machine that has always been well."""

    model_config = ConfigDict(frozen=True)

    acknowledged: bool = False
    snoozed_until: float | None = None  # s since 1970
    flooding: bool = False
    starts: tuple[float, ...] = ()  # of the latest anomalies, s since 1970
    disabled: bool = False


Scores = Annotated[tuple[Finite, ...], Field(max_length=1024)]


class SlowPathLevels(BaseModel):
    """What a slow path has learned under one condition (`monitor.events.slow_path.SlowState`)."""

    model_config = ConfigDict(frozen=True)

    medians: Annotated[tuple[Finite, ...], Field(max_length=N_BLOCKS)] = ()
    level_sum: Scores = ()
    shape_squares: Scores = ()
    minutes: Annotated[tuple[Finite, ...], Field(max_length=MINUTES)] = ()


class SavedSlowPath(BaseModel):
    """One machine's, which belongs to the bundle with this id."""

    model_config = ConfigDict(frozen=True)

    bundle: str
    conditions: Annotated[dict[str, SlowPathLevels], Field(max_length=64)]  # today one, whatever the condition

    @classmethod
    def of(cls, bundle_id: str, state: SlowState) -> "SavedSlowPath":
        """The state as it is written."""
        return cls(bundle=bundle_id, conditions={ANY_CONDITION: SlowPathLevels(**asdict(state))})

    def state(self, bundle_id: str) -> SlowState | None:
        """Where a slow path goes on; None where another bundle scores now."""
        one = self.conditions.get(ANY_CONDITION)
        return None if one is None or self.bundle != bundle_id else SlowState(**one.model_dump())


class SavedSlowPaths(BaseModel):
    """The whole file, by machine."""

    model_config = ConfigDict(frozen=True)

    machines: dict[str, SavedSlowPath] = {}


class ServiceState(BaseModel):
    """The whole file. Keys of a later version are passed over."""

    model_config = ConfigDict(frozen=True)

    alarms: dict[str, AlarmState] = {}
    topics: frozenset[str] = frozenset()  # retained ones


class StateFile(Generic[Content]):
    """A small file, written whole and only on change, by a thread that lives as long as there is something to write.

    What the disk did not take is tried again with the next change, after a minute, and in the end.
    """

    def __init__(self, path: Path, empty: Content, *, what: str) -> None:
        """`empty` stands for a file that is missing or cannot be read; `what` is lost then, for the log."""
        self._path = path
        self._empty = empty
        self._what = what
        self._lock = threading.Lock()
        self._latest = self.loaded = self._read()
        self._thread: threading.Thread | None = None  # while it has something to write
        self._again_at = math.inf  # monotonic, s; finite where the disk did not take the latest

    def keep(self, kept: Content) -> None:
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

    def _read(self) -> Content:
        try:
            return type(self._empty).model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return self._empty
        except (OSError, ValidationError) as error:
            log.error("%s cannot be read, %s are forgotten: %s", self._path, self._what, error)
            return self._empty

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
                atomic_write(self._path, written.model_dump_json().encode())
            except OSError as error:
                if self._again_at == math.inf:
                    log.error("%s cannot be written, a restart will bring back what it says: %s", self._path, error.strerror)
                self._again_at = time.monotonic() + RETRY_S
            else:
                if self._again_at < math.inf:
                    log.info("%s is written again", self._path)
                self._again_at = math.inf
