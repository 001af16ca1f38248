"""All settings, section by section."""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from monitor.config.clips import ClipsConfig
from monitor.config.fields import BundlePath, ConfigPath, OneLine, Section, Slug
from monitor.config.fleet import FleetConfig
from monitor.config.history import HistoryConfig
from monitor.config.messages import shown
from monitor.config.mqtt import MqttConfig, Prefix
from monitor.config.notify import NotifyConfig
from monitor.config.update import UpdateConfig
from monitor.config.web import WebConfig
from monitor.events.event import Severity

_TEXT = r"[^\x00-\x1f\x7f]+"
SELECTOR = rf"^(default|name:{_TEXT}|usb:[0-9a-f]{{4}}:[0-9a-f]{{4}}(:{_TEXT})?|usb-port:[0-9]+-[0-9]+(\.[0-9]+)*|index:[0-9]+)$"
SELECTORS = "default, name:TEXT, usb:VENDOR:PRODUCT[:SERIAL], usb-port:BUS-PORT[.PORT…] or index:N"
Selector = Annotated[
    str,
    StringConstraints(pattern=SELECTOR),
    Field(json_schema_extra={"patternErrorMessage": f"must be {SELECTORS}"}),
]


def _idle_level(value: object) -> object:
    if value is None or value == "learned":
        return value
    try:
        level = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        level = math.nan
    if not -200 <= level <= 0:
        raise ValueError(f"must be learned, null or a level in -200..0 dBFS, got {shown(value)}")
    return level


def _null(value: object) -> object:
    """The environment has only texts."""
    return None if value == "null" else value


class IdleConfig(Section):
    """When a machine counts as switched off, and how that is reported."""

    below_dbfs: Annotated[Literal["learned"] | float | None, BeforeValidator(_idle_level)] = "learned"
    """Level in dBFS below which it is off; learned: the level in the bundle; null: it never counts as off."""

    means: Literal["idle", "anomaly", "score"] = "idle"
    """Meaning of an idle machine: a normal state, an anomaly, or scored like any other sound."""


class MachineConfig(Section):
    """One machine that this node monitors."""

    bundle: BundlePath
    """Folder of its bundle, made by `train fit`; relative to this file's folder, or models/NAME for one that is shipped."""

    name: OneLine | None = None
    """Display name."""

    microphone: Selector = "default"
    """Its microphone: default, name:TEXT, usb:VENDOR:PRODUCT[:SERIAL], usb-port:PATH or index:N."""

    channel: Annotated[int, Field(ge=1, le=256)] | None = None
    """Channel of the microphone, from 1; null: the mean of all channels."""

    microphone_rate_hz: Annotated[int, Field(ge=4_000, le=384_000)] | None = None
    """Sample rate of the microphone; null: the bundle's where supported, else a supported one."""

    enabled: bool = True
    """Whether the machine is monitored."""

    idle: IdleConfig = IdleConfig()


class AlarmConfig(Section):
    """Which anomalies set `anomaly` to ON, and when ON is repeated."""

    from_: Severity = Field(default="alarm", alias="from")
    """Minimum severity for which `anomaly` is ON: alarm or warning."""

    repeat_s: Annotated[int, Field(ge=60, le=604_800)] | None = 3_600
    """Seconds after which an unacknowledged alarm is repeated; null: never."""


class HomeAssistantConfig(Section):
    """MQTT discovery for Home Assistant."""

    enabled: bool = True
    """Whether the node and its machines are announced."""

    discovery_prefix: Prefix = "homeassistant"
    """Discovery prefix, as set in Home Assistant's MQTT integration."""


class Config(Section):
    """Settings of `monitor`."""

    node: Slug = "replay"
    """Id of this computer in topics and events: a-z, 0-9, _ and -."""

    state_dir: ConfigPath = Path("/var/lib/stethos")
    """Folder of the outbox and other state; systemd sets it for the service."""

    runtime_dir: ConfigPath = Path("/run/stethos")
    """Folder of the control socket; systemd sets it for the service."""

    mqtt: Annotated[MqttConfig | None, BeforeValidator(_null)] = MqttConfig()
    """null: no broker; events reach the history, clips, notifications and the page only."""

    home_assistant: HomeAssistantConfig = HomeAssistantConfig()
    alarm: AlarmConfig = AlarmConfig()
    clips: ClipsConfig = ClipsConfig()
    web: WebConfig = WebConfig()
    fleet: FleetConfig = FleetConfig()
    history: HistoryConfig = HistoryConfig()
    update: UpdateConfig = UpdateConfig()

    notify: dict[Slug, NotifyConfig] = Field(default={}, max_length=20, json_schema_extra={"additionalProperties": False})
    """Receivers of messages about alarms, by name; needs stethos[notify]."""

    private: bool = False
    """Never store or send sound: no clips, no `set/clip`, no `monitor record`, pictures with a resolution of whole seconds."""

    remote_changes: bool = True
    """Whether commands over MQTT and from the page may change detection: `enable`, `disable`, `calibrate`, `learn`."""

    machines: dict[Slug, MachineConfig] = Field(default={}, json_schema_extra={"additionalProperties": False})
    """The monitored machines, by their id in topics and events."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        heard: dict[tuple[object, ...], str] = {}
        rates: dict[str, tuple[str, int | None]] = {}
        for name, machine in self.machines.items():
            twin = heard.setdefault((machine.microphone, machine.channel, machine.bundle), name)
            if twin != name:
                raise ValueError(f"machines.{name} must differ from machines.{twin} in microphone, channel or bundle")
            first, rate_hz = rates.setdefault(machine.microphone, (name, machine.microphone_rate_hz))
            if rate_hz != machine.microphone_rate_hz:
                raise ValueError(
                    f"machines.{name}.microphone_rate_hz must be {rate_hz or 'left out'} as in machines.{first}, which has "
                    f"the same microphone, got {machine.microphone_rate_hz or 'none'}"
                )
        for target, notify in self.notify.items():
            if unknown := [name for name in notify.machines or () if name not in self.machines]:
                raise ValueError(f"notify.{target}.machines must be of {', '.join(self.machines)}, got {', '.join(unknown)}")
        return self
