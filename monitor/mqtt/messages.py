"""Every message of docs/mqtt.md as a model: outgoing messages are built from them, incoming ones validated by them."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from monitor.config.fields import DESCRIBED, MAX_SNOOZE_S, Slug
from monitor.events.event import MOMENT, EndReason, EventType, RaisedBy, Severity, State
from monitor.events.slow_path import Status as SlowStatus
from monitor.json_lines import to_json

MAX_CALIBRATION_MINUTES = 120
MIN_LEARN_MINUTES, LEARN_MINUTES, MAX_LEARN_MINUTES = 5.5, 10.0, 240.0
Moment = Annotated[str, StringConstraints(pattern=MOMENT), Field(json_schema_extra={"format": "date-time"})]
EventId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
    Field(json_schema_extra={"patternErrorMessage": "must be the id of an event"}),
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


def _open_to_new_keys(schema: JsonDict) -> None:
    """Subscribers must accept keys that are added later. We publish no key that is not listed here."""
    schema.pop("additionalProperties", None)


class Sent(BaseModel):
    """A message of this node; `text` is its JSON."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=DESCRIBED, json_schema_extra=_open_to_new_keys
    )

    schema_: Literal[1] = Field(default=1, alias="schema")

    @property
    def text(self) -> str:
        """The payload. A number that is not finite is a bug and raises ValueError."""
        return to_json(self.model_dump(by_alias=True))


class StateMessage(Sent):
    """The state of a machine."""

    state: State
    reason: str | None
    """The reason for `unknown`, `starting` or `disabled`, if there is one. `learning` is explained by the topic of that name."""

    severity: Severity | None
    """Of the open anomaly, while the state is `anomaly`."""

    acknowledged: bool
    """The alarm is acknowledged; this lasts until the machine is normal again."""

    snoozed: bool
    """`anomaly` is not ON while the alarm is snoozed."""

    snoozed_until: Moment | None
    flooding: bool
    """More than 10 alarms began within 10 minutes; ends when fewer than 5 did."""

    recent_anomalies: Count
    """Alarms that began within the last 10 minutes: anomalies of at least the severity in `alarm.from`."""

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
    """The shift of normal sound since the threshold was set: the mean score over about a day, in standard deviations of the
    scores of normal segments. Informative only."""

    slow_path: SlowStatus | None
    """`learning` the machine's normal level on site, `ready`, or `learn_again`: that level is more than twice the one of
    training, so the slow path is off until the machine is learned again. null while the machine is not monitored, and in a
    replay."""

    slow_path_missing_h: float | None
    """Hours of scored sound that the slow path still needs."""

    slow_path_ratio: float | None
    """The median score of the last 15 minutes / the limit of the slow path; null until it is ready and has that much sound."""

    since: Moment


class BandMessage(BaseModel):
    """A frequency band in which the sound differs."""

    model_config = Sent.model_config

    low_hz: float
    high_hz: float
    excess_db: float


class EventMessage(Sent):
    """The start, an update or the end of an anomaly, identified by (id, seq)."""

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
    """The rule that raised it, on whose scale `peak_ratio` is: 12 of 20 segments, the fast path, or the slow path."""
    decided_by: RaisedBy = "segments"
    """The rule behind this message, to which `score`, `ratio` and `threshold` belong."""
    impulses_hz: float | None = None
    """Rate of unusual impulses; null where there are none, or the bundle has no reference for them."""
    test: bool = False
    """Whether it is the event of `monitor test-alarm`. No machine has a fault."""


class PromiseMessage(BaseModel):
    """What a bundle learned from this much sound can be expected to do, before it is learned."""

    model_config = Sent.model_config

    minutes: float
    warning_from: float
    """Score, in multiples of the usual one, from which lasting sound raises a warning."""

    alarm_from: float
    """The same for an alarm."""

    false_per_day: float
    """That there are fewer false events a day than this is all that so much sound can show (95 % confidence)."""

    text: str
    """All of this in words."""


class LearningMessage(Sent):
    """A machine that is being learned or calibrated, or that has not learned yet."""

    phase: Literal["not_started", "recording", "computing"]
    command: Literal["learn", "calibrate"]
    """The command that runs, or that is missing."""

    done_s: float
    """Sound recorded so far, including that from before a restart."""

    wanted_s: float
    resumed_s: float
    """Sound that was recorded before the service was restarted."""

    missing: str
    """What is missing, in words."""

    rms_dbfs: float | None
    """Level of the last tick."""

    problem: str | None
    """Why the last tick cannot be used, or why no sound arrives; null if neither."""

    n_unusable: Count
    """Ticks that cannot be used, of `n_ticks`."""

    n_ticks: Count
    promises: list[PromiseMessage]
    """For the sound so far, for all of it, and for more; empty while calibrating."""


class HealthMessage(Sent):
    """The health of the node, once a minute."""

    ts: Moment
    uptime_s: Count
    memory_mb: float
    """Resident, of all its processes."""

    cpu_percent: float
    """Of one core, since the last message."""

    temperature_c: float | None
    disk_free_mb: float | None
    queued: Count
    """Events that the broker has not acknowledged, including parked ones."""

    dropped: Count
    """Events lost since the start: there was no room for them, or they could not be read back."""

    parked: Count
    """Events that the broker does not accept, or that are too large; they are stored and tried again later."""

    last_parked: str | None
    """The last of them and the reason; null where none is parked."""

    outbox_error: str | None
    """The reason why events are in memory only, and lost if the service ends; null while they are on disk."""

    clips_lost: Count
    """Clips and pictures that could not be written, since the start."""

    history_lost: Count
    """Events and hours of scores that the history could not keep, since the start."""

    history_error: str | None
    """The reason why the history is in memory only; null while it is on disk, or disabled."""

    commands_dropped: Count
    """Commands dropped because too many came at once, since the start."""

    failures: Count
    """Unexpected errors since the start: of machines (which were restarted), microphones, background jobs, commands, reloads."""

    clock_synced: bool
    overruns: Count
    gap_s: float
    last_frame_age_s: float | None
    notifications_queued: Count = 0
    """Messages of `notify` that are not delivered yet."""

    notifications_failed: Count = 0
    """Attempts to send them that failed, since the start; each is repeated."""

    notifications_dropped: Count = 0
    """Messages dropped since the start: there was no room for them, or their target is no longer configured."""


class MachineInfo(BaseModel):
    """One configured machine."""

    model_config = Sent.model_config

    name: str | None
    microphone: str
    bundle: str | None
    """Name and hash of the bundle in use; null while the machine is disabled."""

    adapted: Literal["learn", "calibrate"] | None
    """The command that adapted the bundle on this node; null for the configured bundle."""


class InfoMessage(Sent):
    """Versions and machines of the node."""

    versions: dict[str, str]
    machines: dict[Slug, MachineInfo]


class BundleInUse(BaseModel):
    """The bundle of one machine, where it comes from, and what it has done."""

    model_config = Sent.model_config

    bundle: str | None
    """Name and hash of the bundle in use; null while the machine is disabled."""

    hash: str | None
    """SHA-256 of its manifest, which contains the hashes of its other files."""

    release: str | None
    """The release that installed it; null for the configured bundle and for those of `monitor install-bundle`."""

    since: Moment | None
    """When it was installed; null for the configured bundle."""

    previous: str | None
    """Name and hash of the bundle before, to which it can go back."""

    trial_until: Moment | None
    """Until then, an alarm that the bundle before does not share undoes the change."""

    alarms: Count
    """Alarms that it has raised in the last `hours`."""

    hours: float
    """Duration of the sound that it has scored since it came into use, or since the start of the service."""

    refused: str | None
    """The last release that was refused or undone, and why."""


class CurrentMessage(Sent):
    """The bundles in use on the node."""

    group: Slug
    """The group whose releases the node uses."""

    machines: dict[Slug, BundleInUse]


class ResponseMessage(Sent):
    """The answer to a command."""

    ts: Moment
    command: str
    accepted: bool
    reason: str | None
    """Why it was refused."""

    request: str | None
    """As in the command."""

    result: str | None = None
    """The outcome of a command that takes time, in a second response; null in the first."""


def _whole(value: object) -> object:
    """JSON does not distinguish 1800.0 from 1800, and many senders support only floating-point numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Command(BaseModel):
    """Keys that every command accepts."""

    # Untrusted input is not cached.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=DESCRIBED, cache_strings="none")

    request: Annotated[str, StringConstraints(pattern=r"^[ -~]{1,64}$")] | None = None
    """Repeated in the response."""


class Acknowledge(Command):
    """Acknowledge the alarm."""

    id: Annotated[str, StringConstraints(max_length=64)] | None = None
    """The anomaly to acknowledge; rejected when another one is open by now."""


class FetchClip(Command):
    """Publish the recorded sound of an event."""

    id: EventId


class Calibrate(Command):
    """Adapt the bundle to a microphone that was replaced or moved."""

    minutes: Annotated[int, Field(ge=1, le=MAX_CALIBRATION_MINUTES), BeforeValidator(_whole)] = 10
    """Length of the measurement."""

    force: bool = False
    """Accept sound that does not match the trained machine."""

    undo: bool = False
    """Undo the last calibration instead, or, without one, the last learning. Needs `force` if nothing learned is left then."""

    reference: bool = False
    """Let the slow path learn the machine's normal level again instead; the bundle is not changed."""


class Learn(Command):
    """Learn the machine from its normal sound, on this node."""

    minutes: Annotated[float, Field(ge=MIN_LEARN_MINUTES, le=MAX_LEARN_MINUTES, allow_inf_nan=False)] = LEARN_MINUTES
    """Length of the recording, during which the machine must run normally."""

    extend: bool = False
    """Learn from this session and all earlier ones, instead of starting over."""

    force: bool = False
    """Leave out sound that differs from the rest, however much it is."""

    stop: bool = False
    """Stop learning instead and discard what was recorded; the bundle in use stays."""


class Snooze(Command):
    """Keep `anomaly` from being ON for a time; 0 ends the snooze."""

    duration_s: Annotated[int, Field(ge=0, le=MAX_SNOOZE_S), BeforeValidator(_whole)] = 3_600


class Disable(Command):
    """Stop monitoring the machine until it is enabled."""


class Enable(Command):
    """Monitor the machine again."""


class Desired(Command):
    """Ask the node to look for a release now. It is a doorbell: the node believes its signed repository only."""

    machine: Slug | None = None
    """For people; every machine is looked up."""

    target: Annotated[str, StringConstraints(max_length=200)] | None = None
    """For people, such as the name of a release."""

    not_before: Moment | None = None
    """Look no earlier than this, such as after the shift."""
