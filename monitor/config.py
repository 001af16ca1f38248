"""Settings: defaults, then YAML, then the environment (STETHOS_…), validated; every error names its key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from monitor.bundle.manifest import one_line
from monitor.bundle.yaml_file import read_mapping
from monitor.core.errors import ConfigError

ENVIRONMENT_PREFIX = "STETHOS_"
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+$")]
Host = Annotated[str, StringConstraints(max_length=253, pattern=r"^[!-~]+$")]
Prefix = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^/+#\s\x00-\x1f]+(/[^/+#\s\x00-\x1f]+)*$")]


def _no_truth(value: object) -> object:
    """YAML's `true` is no number."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, got {str(value).lower()}")
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MqttConfig(_Section):
    """Where the broker is and what every topic begins with."""

    host: Host = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(_no_truth)] = 1883
    prefix: Prefix = "stethos"


class MachineConfig(_Section):
    """One machine that this node listens to. A relative path counts from the configuration file."""

    bundle: Path


class Config(_Section):
    """Everything that can be set."""

    node: Slug = "replay"
    mqtt: MqttConfig = MqttConfig()
    machines: dict[Slug, MachineConfig] = {}


def load_config(path: Path | None, environment: Mapping[str, str]) -> Config:
    """Read the configuration; ConfigError says in one line which key is wrong and what is allowed."""
    settings: dict[str, Any] = {} if path is None else read_mapping(path)
    for name, text in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            _override(settings, name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"), text)
    try:
        config = Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{path or 'environment'}: {one_line(error)}") from error
    base = Path() if path is None else path.parent
    machines = {key: MachineConfig(bundle=base / machine.bundle) for key, machine in config.machines.items()}
    return config.model_copy(update={"machines": machines})


def _override(settings: dict[str, Any], keys: list[str], text: str) -> None:
    """Put the text of STETHOS_MQTT__HOST at settings["mqtt"]["host"]; pydantic makes a number of it where one belongs."""
    *parents, last = keys
    for key in parents:
        below = settings.get(key)
        settings[key] = below if isinstance(below, dict) else {}
        settings = settings[key]
    settings[last] = text
