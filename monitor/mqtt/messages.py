"""Every message of docs/mqtt.md, as models: what is sent is made by them, what is received is checked by them."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from monitor.config.fields import Slug
from monitor.events.event import EndReason, EventType, RaisedBy, Severity
from monitor.events.pipeline import State
from monitor.events.slow_path import Status as SlowStatus
from monitor.json_lines import to_json

MAX_SNOOZE_S = 86_400
MAX_CALIBRATION_MINUTES = 120
MOMENT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"
Moment = Annotated[str, StringConstraints(pattern=MOMENT), Field(json_schema_extra={"format": "date-time"})]
EventId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
    Field(json_schema_extra={"patternErrorMessage": "must be that of an event"}),
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


def _open_to_new_keys(schema: JsonDict) -> None:
    """Subscribers must take keys that are added later; we ourselves may not send what is not written here."""
    schema.pop("additionalProperties", None)


class Sent(BaseModel):
    """A message of this node; `text` is its JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, json_schema_extra=_open_to_new_keys)

    schema_: Literal[1] = Field(default=1, alias="schema")

    @property
    def text(self) -> str:
        """What goes over the wire; a number that is not finite is a bug and raises ValueError."""
        return to_json(self.model_dump(by_alias=True))


class StateMessage(Sent):
    """How a machine is."""

    state: State
    reason: str | None
    """Why the state is `unknown`, `starting` or `disabled`, where there is a reason."""

    severity: Severity | None
    """Of the open anomaly, while the state is `anomaly`."""

    acknowledged: bool
    """Somebody knows; until the machine is heard to be normal again."""

    snoozed: bool
    """`anomaly` does not read ON for now."""

    snoozed_until: Moment | None
    flooding: bool
    """More than 10 alarms began within 10 minutes, and not yet fewer than 5."""

    recent_anomalies: Count
    """Alarms that began within the last 10 minutes: anomalies of the severity that `alarm.from` names, or above."""

    score: float | None
    ratio: float | None
    """score / threshold; 1 is the threshold."""

    threshold: float | None
    rms_dbfs: float | None
    peak: float | None
    """Of the last tick; full scale is 1."""

    dc: float | None
    clipped_fraction: Fraction | None
    zero_fraction: Fraction | None
    drift: float | None
    """How far normal sound has moved from what the threshold was set on: the mean over about a day, in standard deviations
    of normal segments' scores. Nothing acts on it."""

    slow_path: SlowStatus | None
    """`learning` the machine's normal level on the spot, `ready`, or `learn_again`: that level is more than twice the one of
    training, so the slow path is off until the machine is learned again. null where nobody listens, and in a replay."""

    slow_path_missing_h: float | None
    """Hours of scored sound that the slow path still has to learn."""

    slow_path_ratio: float | None
    """The median score of the last 15 minutes / the limit of the slow path; null until it is ready and has heard so much."""

    since: Moment


class BandMessage(BaseModel):
    """Where in frequency the sound differs."""

    model_config = Sent.model_config

    low_hz: float
    high_hz: float
    excess_db: float


class EventMessage(Sent):
    """One message of an anomaly's life, identified by (id, seq)."""

    event_type: EventType
    id: EventId
    seq: Count
    ts: Moment
    onset_ts: Moment
    clock_synced: bool
    node: Slug
    machine: Slug
    severity: Severity
    """`warning` or `alarm`; it may rise from one message to the next, and never falls."""

    score: float | None
    ratio: float
    threshold: float
    peak_ratio: float
    duration_s: float
    rms_dbfs: float
    bands: Annotated[list[BandMessage], Field(max_length=5)]
    summary: str
    bundle: str
    clip: str | None
    end_reason: EndReason | None
    raised_by: RaisedBy = "segments"
    """The rule that began it: 12 of 20 segments, the fast path for gross faults, or the slow path."""
    impulses_hz: float | None = None
    """Impulses a second that are not usual; null where there are none, or the bundle cannot tell."""


class HealthMessage(Sent):
    """How the node is, once a minute."""

    ts: Moment
    uptime_s: Count
    memory_mb: float
    """Resident, of all its processes."""

    cpu_percent: float
    """Of one core, since the last message."""

    temperature_c: float | None
    disk_free_mb: float | None
    queued: Count
    """Events that the broker has not acknowledged."""

    dropped: Count
    """Events lost for lack of room, or too large for the broker, since the start."""

    clips_lost: Count
    """Clips and pictures that the disk did not take, since the start."""

    commands_dropped: Count
    """Commands that came faster than they could be answered, since the start."""

    failures: Count
    """Unexpected errors since the start: of machines (which were restarted), microphones, background jobs, commands, reloads."""

    clock_synced: bool
    overruns: Count
    gap_s: float
    last_frame_age_s: float | None


class MachineInfo(BaseModel):
    """One configured machine."""

    model_config = Sent.model_config

    name: str | None
    microphone: str
    bundle: str | None
    """Name and hash of the one in use; null where it is disabled."""

    adapted: Literal["learn", "calibrate"] | None
    """By which command it was made on this node; null where it is the configured one."""


class InfoMessage(Sent):
    """What runs on the node."""

    versions: dict[str, str]
    machines: dict[Slug, MachineInfo]


class ResponseMessage(Sent):
    """What became of a command."""

    ts: Moment
    command: str
    accepted: bool
    reason: str | None
    """Why it was refused."""

    request: str | None
    """As in the command."""

    result: str | None = None
    """What came of a command that takes its time, in a second response; null in the first."""


def _whole(value: object) -> object:
    """JSON does not tell 1800.0 from 1800, and many senders know floating point only."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Command(BaseModel):
    """What every command may carry."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, cache_strings="none"
    )  # what strangers send is not remembered

    request: Annotated[str, StringConstraints(pattern=r"^[ -~]{1,64}$")] | None = None
    """Comes back in the response."""


class Acknowledge(Command):
    """Somebody knows of the anomaly."""

    id: Annotated[str, StringConstraints(max_length=64)] | None = None
    """Of the anomaly that is meant; refused when it is another one by now."""


class FetchClip(Command):
    """Send the sound of an event."""

    id: EventId


class Calibrate(Command):
    """Fit the bundle to the microphone, or the place for it, that the machine is now heard with."""

    minutes: Annotated[int, Field(ge=1, le=MAX_CALIBRATION_MINUTES), BeforeValidator(_whole)] = 10
    """How long to listen."""

    force: bool = False
    """Take sound that looks like a different machine all the same."""

    undo: bool = False
    """Take back the last calibration, or what was learned where there is none, instead."""

    reference: bool = False
    """Have the slow path learn the machine's normal level anew instead; the bundle is not changed."""


class Snooze(Command):
    """`anomaly` is not to read ON for a time; 0 ends that."""

    duration_s: Annotated[int, Field(ge=0, le=MAX_SNOOZE_S), BeforeValidator(_whole)] = 3_600


class Disable(Command):
    """Do not listen to the machine until it is enabled."""


class Enable(Command):
    """Listen to the machine again."""
