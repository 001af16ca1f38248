"""The parts of MQTT messages that the overview uses, from nodes of any version: unknown keys are ignored."""

import re
from datetime import datetime, timedelta, timezone
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from monitor.events.event import EventType, Severity, State, from_rfc3339

MAX_PAYLOAD = 60_000  # bytes
MAX_BUNDLES = 64  # machines of one node
TOPIC = re.compile(r"([a-z0-9_-]{1,64})(?:/([a-z0-9_-]{1,64}))?/([a-z]{1,20})")
_READ = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, cache_strings="none")
Word = Annotated[str, StringConstraints(max_length=64)]
Text = Annotated[str, StringConstraints(max_length=500)]
Moment = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z$"),
    AfterValidator(lambda text: from_rfc3339(text) and text),
]
MAX_AHEAD = timedelta(days=1)


def _has_begun(text: str) -> str:
    """Clocks differ, but no event begins days from now. Such a one would stay at the top of every list."""
    if from_rfc3339(text) > datetime.now(timezone.utc) + MAX_AHEAD:
        raise ValueError("must not be in the future")
    return text


EventId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Figure = Annotated[float, Field(ge=-1e9, le=1e9)]


class StateReading(BaseModel):
    """A machine's state (docs/mqtt.md)."""

    model_config = _READ

    state: State
    since: Moment
    reason: Word | None = None
    severity: Severity | None = None
    acknowledged: bool = False
    snoozed_until: Moment | None = None
    flooding: bool = False
    ratio: Figure | None = None
    drift: Figure | None = None
    rms_dbfs: Figure | None = None


class EventReading(BaseModel):
    """A message of an anomaly."""

    model_config = _READ

    event_type: EventType
    id: EventId
    seq: Count
    ts: Moment
    onset_ts: Annotated[Moment, AfterValidator(_has_begun)]
    severity: Severity
    peak_ratio: Figure
    duration_s: Figure
    summary: Text
    bundle: Text
    end_reason: Word | None = None
    raised_by: Word = "segments"
    test: bool = False


class HealthReading(BaseModel):
    """A node's health."""

    model_config = _READ

    ts: Moment
    uptime_s: Count
    memory_mb: Figure
    cpu_percent: Figure
    temperature_c: Figure | None = None
    disk_free_mb: Figure | None = None
    queued: Count = 0
    dropped: Count = 0
    parked: Count = 0
    failures: Count = 0
    clock_synced: bool = True
    gap_s: Figure = 0.0


class MachineReading(BaseModel):
    """A configured machine."""

    model_config = _READ

    name: Text | None = None
    bundle: Text | None = None
    adapted: Word | None = None


class InfoReading(BaseModel):
    """A node's versions and machines."""

    model_config = _READ

    versions: Annotated[dict[Word, Text], Field(max_length=32)] = {}
    machines: Annotated[dict[Word, MachineReading], Field(max_length=MAX_BUNDLES)] = {}


class ResponseReading(BaseModel):
    """The answer to a command."""

    model_config = _READ

    ts: Moment
    command: Word
    accepted: bool
    reason: Text | None = None
    request: Word | None = None
    result: Text | None = None


Online = Literal["online", "offline"]
Reading = TypeVar("Reading", bound=BaseModel)


def read(model: type[Reading], payload: bytes) -> Reading | None:
    """The message, or None if it is not one."""
    try:
        return model.model_validate_json(payload)
    except (ValidationError, ValueError, RecursionError):
        return None


def online(payload: bytes) -> bool | None:
    """Whether a status is `online`; None if it is neither that nor `offline`."""
    return {b"online": True, b"offline": False}.get(payload)
