"""Everything that can be set, section by section."""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from monitor.config.clips import ClipsConfig
from monitor.config.fields import ConfigPath, Section, Slug, left_out
from monitor.config.mqtt import MqttConfig, Prefix
from monitor.events.event import Severity

SELECTOR = r"^(default|name:.+|usb:[0-9a-f]{4}:[0-9a-f]{4}(:.+)?|usb-port:[0-9]+-[0-9]+(\.[0-9]+)*|index:[0-9]+)$"
SELECTORS = "default, name:TEXT, usb:VENDOR:PRODUCT[:SERIAL], usb-port:BUS-PORT[.PORT…] or index:N"
Selector = Annotated[
    str,
    StringConstraints(pattern=SELECTOR),
    Field(json_schema_extra={"patternErrorMessage": f"must be {SELECTORS}"}),
]

OneLine = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$"),
    Field(json_schema_extra={"patternErrorMessage": "must be one line of text"}),
]


def _idle_level(value: object) -> object:
    if value is None or value == "learned":
        return value
    try:
        level = float(str(value))
    except ValueError:
        level = math.nan
    if not -200 <= level <= 0:
        raise ValueError(f"must be learned, null or a level in -200..0 dBFS, got {value}")
    return level


class IdleConfig(Section):
    """When a machine counts as switched off, and what that means."""

    below_dbfs: Annotated[Literal["learned"] | float | None, BeforeValidator(_idle_level)] = "learned"
    """Quieter than this, in dBFS, it is off; learned: than the bundle says; null: it is never taken to be off."""

    means: Literal["idle", "anomaly", "score"] = "idle"
    """What an idle machine is: nothing to worry about, an anomaly in itself, or scored like any other sound."""


class MachineConfig(Section):
    """One machine that this node listens to."""

    bundle: ConfigPath
    """Folder of its bundle, as `train fit` made it; a relative path counts from this file."""

    name: OneLine | None = None
    """What people call it."""

    microphone: Selector = "default"
    """Which microphone hears it: default, name:TEXT, usb:VENDOR:PRODUCT[:SERIAL], usb-port:PATH or index:N."""

    channel: Annotated[int, Field(ge=1, le=256)] | None = None
    """Which channel of the microphone, from 1; null: the mean of all."""

    microphone_rate_hz: Annotated[int, Field(ge=4_000, le=384_000)] | None = None
    """The rate to open the microphone at; null: the bundle's where the microphone can, else one that it can."""

    enabled: bool = True
    """Whether to listen to it."""

    idle: Annotated[IdleConfig, BeforeValidator(left_out)] = IdleConfig()


class AlarmConfig(Section):
    """Which anomalies turn `anomaly` ON, and when it says ON once more."""

    from_: Severity = Field(default="alarm", alias="from")
    """The least severity for which `anomaly` reads ON: alarm, or warning for those who want to hear more."""

    repeat_s: Annotated[int, Field(ge=60, le=604_800)] | None = 3_600
    """How often an alarm that nobody acknowledges rings again; null: it rings once."""


class HomeAssistantConfig(Section):
    """What Home Assistant is told of itself."""

    enabled: bool = True
    """Whether every machine is announced to it."""

    discovery_prefix: Prefix = "homeassistant"
    """Where it listens for announcements, as set in its MQTT integration."""


class Config(Section):
    """Settings of `monitor`."""

    node: Slug = "replay"
    """This computer's name in topics and events: a-z, 0-9, _ and -."""

    state_dir: ConfigPath = Path("/var/lib/stethos")
    """Where undelivered events are kept; the service's is given by systemd."""

    runtime_dir: ConfigPath = Path("/run/stethos")
    """Where the service's control socket is; the service's is given by systemd."""

    mqtt: Annotated[MqttConfig, BeforeValidator(left_out)] = MqttConfig()
    home_assistant: Annotated[HomeAssistantConfig, BeforeValidator(left_out)] = HomeAssistantConfig()
    alarm: Annotated[AlarmConfig, BeforeValidator(left_out)] = AlarmConfig()
    clips: Annotated[ClipsConfig, BeforeValidator(left_out)] = ClipsConfig()

    private: bool = False
    """Whether sound has to stay in memory: no clips, no `set/clip`, no `monitor record`, pictures that show whole seconds."""

    machines: Annotated[dict[Slug, MachineConfig], BeforeValidator(left_out)] = Field(
        default_factory=dict, json_schema_extra={"additionalProperties": False}
    )
    """What this computer listens to, by the id that topics and events use."""

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
        return self
