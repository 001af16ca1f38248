"""The state files: all state besides events that survives a restart of the service."""

import logging
import math
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from monitor.bundle.manifest import one_line
from monitor.clips.worker import BackgroundWorker
from monitor.daemon.alarm import Alarm
from monitor.errors import SinkError
from monitor.events.slow_path import MINUTES, N_BLOCKS, SlowState
from monitor.files import atomic_write, read_regular
from monitor.threads import Probe

log = logging.getLogger(__name__)
Content = TypeVar("Content", bound=BaseModel)
Time = Annotated[float, Field(ge=0, le=1e11)]  # s since 1970; a larger one has no date
Score = Annotated[float, Field(ge=0, le=1e30)]  # its power of a few is finite
Level = Annotated[float, Field(ge=-1e30, le=1e30)]
Topic = Annotated[str, StringConstraints(pattern=r"^[^+#\x00]{1,1000}$")]
MAX_BYTES = 16_000_000
ANY_CONDITION = "any"
RETRY_S = 60.0  # after a failed write


class AlarmState(BaseModel):
    """The alarm state of one machine, saved if it differs from the default."""

    model_config = ConfigDict(frozen=True)

    acknowledged: bool = False
    snoozed_until: Time | None = None
    flooding: bool = False
    starts: Annotated[tuple[Time, ...], Field(max_length=100)] = ()  # of the latest anomalies
    disabled: bool = False

    @classmethod
    def of(cls, alarm: Alarm, *, disabled: bool, step_s: float = 0.0) -> "AlarmState":
        """Convert an alarm to the format of the file. `step_s` is how far the system clock was set since the start."""
        marks = alarm.marks
        return cls(
            acknowledged=marks.acknowledged,
            snoozed_until=None if marks.snoozed_until is None else max(0.0, marks.snoozed_until + step_s),
            flooding=marks.flooding,
            starts=tuple(max(0.0, start + step_s) for start in alarm.latest),
            disabled=disabled,
        )


Levels = Annotated[tuple[Level, ...], Field(max_length=1024)]


class SlowPathLevels(BaseModel):
    """The state of a slow path under one condition (`monitor.events.slow_path.SlowState`)."""

    model_config = ConfigDict(frozen=True)

    medians: Annotated[tuple[Score, ...], Field(max_length=N_BLOCKS)] = ()
    level_sum: Levels = ()
    shape_squares: Levels = ()
    minutes: Annotated[tuple[Score, ...], Field(max_length=MINUTES)] = ()


class SavedSlowPath(BaseModel):
    """The slow path of one machine, learned with the bundle whose id is `bundle`."""

    model_config = ConfigDict(frozen=True)

    bundle: str
    conditions: Annotated[dict[str, SlowPathLevels], Field(max_length=64)]  # currently a single one

    @classmethod
    def of(cls, bundle_id: str, state: SlowState) -> "SavedSlowPath":
        """Convert a state to the format of the file."""
        return cls(bundle=bundle_id, conditions={ANY_CONDITION: SlowPathLevels(**asdict(state))})

    def state(self, bundle_id: str) -> SlowState | None:
        """The state to resume from; None if it was learned with another bundle."""
        one = self.conditions.get(ANY_CONDITION)
        return None if one is None or self.bundle != bundle_id else SlowState(**one.model_dump())


class SavedSlowPaths(BaseModel):
    """The contents of the file of slow paths, by machine."""

    model_config = ConfigDict(frozen=True)

    machines: dict[str, SavedSlowPath] = {}


class ServiceState(BaseModel):
    """The contents of the service's state file. Keys written by a later version are ignored."""

    model_config = ConfigDict(frozen=True)

    alarms: dict[str, AlarmState] = {}
    topics: Annotated[frozenset[Topic], Field(max_length=10_000)] = frozenset()  # retained topics


class StateFile(Generic[Content]):
    """A small file that is rewritten on a background thread, only when its content changes.

    A failed write is retried with the next change, after a minute, and on close.
    """

    def __init__(self, path: Path, empty: Content, *, what: str) -> None:
        """`empty` replaces a file that is missing or unreadable. `what` names the lost content in the log."""
        self._path = path
        self._empty = empty
        self._what = what
        self._lock = threading.Lock()
        self._latest = self.loaded = self._read()
        self._worker = BackgroundWorker(path.name)
        self._is_queued = False
        self._retry_at = math.inf  # monotonic, s; finite after a failed write

    def save(self, content: Content) -> None:
        """Queue the content for writing if it has changed. Returns at once."""
        with self._lock:
            if content == self._latest and time.monotonic() < self._retry_at:
                return
            self._latest = content
            self._queue()

    def close(self, timeout_s: float) -> None:
        """Wait until it is written, at most that long."""
        with self._lock:
            if self._retry_at < math.inf:
                self._queue()
        self._worker.close(timeout_s)

    def probe(self, *, patience_s: float) -> Probe:
        """The watchdog's view of its thread."""
        return self._worker.probe(patience_s=patience_s)

    def _queue(self) -> None:
        """Have the worker write, once. The lock is held."""
        if self._is_queued:
            self._worker.start_if_needed()
        else:
            self._worker.put(self._write)
            self._is_queued = True

    def _read(self) -> Content:
        try:
            return type(self._empty).model_validate_json(read_regular(self._path, max_bytes=MAX_BYTES, within=self._path.parent))
        except FileNotFoundError:
            return self._empty
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else one_line(error)
            log.error("%s cannot be read, %s are lost: %s", self._path, self._what, reason)
            return self._empty

    def _write(self) -> None:
        with self._lock:
            self._is_queued, content = False, self._latest
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self._path, content.model_dump_json().encode())
        except Exception as error:
            self._retry_at = time.monotonic() + RETRY_S
            if isinstance(error, OSError):
                raise SinkError(f"{self._path} cannot be written, a restart loses the changes: {error.strerror}") from error
            raise
        self._retry_at = math.inf
