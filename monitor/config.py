"""Settings: defaults, then YAML, then the environment (STETHOS_…), validated; every error names its key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from monitor.bundle.manifest import one_line
from monitor.core.errors import ConfigError

ENVIRONMENT_PREFIX = "STETHOS_"
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+$")]
Prefix = Annotated[str, StringConstraints(pattern=r"^[^/+#\s][^+#\s]*[^/+#\s]$|^[^/+#\s]$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MqttConfig(_Section):
    """Where the broker is and what every topic begins with."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
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
    settings: dict[str, Any] = {} if path is None else _read_yaml(path)
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX):
            _override(settings, name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"), text)
    try:
        config = Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{path or 'environment'}: {one_line(error)}") from error
    base = Path() if path is None else path.parent
    machines = {key: MachineConfig(bundle=base / machine.bundle) for key, machine in config.machines.items()}
    return config.model_copy(update={"machines": machines})


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8 text, got byte {error.object[error.start]:#x}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, got a {type(content).__name__}")
    return content


def _override(settings: dict[str, Any], keys: list[str], text: str) -> None:
    """Put the text of STETHOS_MQTT__HOST at settings["mqtt"]["host"]; pydantic makes a number of it where one belongs."""
    *parents, last = keys
    for key in parents:
        below = settings.get(key)
        settings[key] = below if isinstance(below, dict) else {}
        settings = settings[key]
    settings[last] = text
