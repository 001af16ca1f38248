"""The event: a message about an anomaly, with a reproducible id."""

import uuid
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:  # the settings need only the names of severities, and the page must not load NumPy
    from monitor.explain.bands import Band

EVENT_SCHEMA = 1
State = Literal["starting", "learning", "normal", "anomaly", "idle", "unknown", "disabled"]  # of a machine
EventType = Literal["start", "update", "end"]
RaisedBy = Literal["segments", "fast", "slow"]  # k of n segments, the fast path, or the slow path
Severity = Literal["warning", "alarm"]  # "warning": look at it soon; "alarm": worth a call at night
EndReason = Literal["cleared", "lost", "shutdown", "restarted", "disabled", "reloaded"]
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:stethos:event")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The origin of events, which is part of each event and its id. `session` identifies one opening of a source."""

    node: str
    machine: str
    bundle: str
    session: str

    def event_id(self, start: int) -> str:
        """UUIDv5 of the identity and the sample index at which the anomaly began."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.node}/{self.machine}/{self.bundle}/{self.session}/{start}"))


class EventClock(Protocol):
    """Maps sample indexes of a source to UTC. `synced` is whether that clock is set."""

    @property
    def sample_rate_hz(self) -> int:
        """The number of samples per second."""
        ...

    @property
    def synced(self) -> bool:
        """Whether the clock is set."""
        ...

    def at(self, sample: int) -> datetime:
        """The UTC time of a sample."""
        ...


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """The timeline of a recording whose sample 0 was recorded at `utc`."""

    utc: datetime
    sample_rate_hz: int
    synced: bool

    def at(self, sample: int) -> datetime:
        """The UTC time of a sample."""
        return self.utc + timedelta(seconds=sample / self.sample_rate_hz)


MOMENT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"  # what `rfc3339` writes


def rfc3339(moment: datetime) -> str:
    """UTC with milliseconds and a Z, such as 2026-11-21T10:00:00.000Z."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> datetime:
    """The time that `rfc3339` has written."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 knows no Z


@dataclass(frozen=True, kw_only=True)
class Event:
    """One message about an anomaly (docs/mqtt.md), identified by (id, seq)."""

    event_type: EventType
    id: str
    seq: int
    ts: datetime  # end of the deciding tick
    onset_ts: datetime  # start of the first tick whose own score was over the threshold
    clock_synced: bool
    node: str
    machine: str
    severity: Severity
    score: float | None  # None if silence is the anomaly
    ratio: float
    threshold: float
    peak_ratio: float
    duration_s: float  # from the onset to the end of the last tick whose own score was over the threshold
    rms_dbfs: float
    bands: "tuple[Band, ...]"
    summary: str
    bundle: str
    clip: str | None = None
    end_reason: EndReason | None = None
    raised_by: RaisedBy = "segments"
    decided_by: RaisedBy = "segments"  # the rule that `score`, `ratio` and `threshold` belong to
    impulses_hz: float | None = None  # unusual impulses per second
    test: bool = False  # of `monitor test-alarm`; no machine has a fault

    def to_dict(self) -> dict[str, Any]:
        """The flat JSON object that is published over MQTT."""
        times = {"ts": rfc3339(self.ts), "onset_ts": rfc3339(self.onset_ts)}
        return {"schema": EVENT_SCHEMA, **asdict(self), **times}
