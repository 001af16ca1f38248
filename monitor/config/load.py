"""Read defaults, then YAML, then the environment (STETHOS_…), and validate. Every error names its key."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from monitor.config.installed import with_installed
from monitor.config.messages import Location, problems
from monitor.config.settings import Config
from monitor.config.yaml_file import read_as_written
from monitor.errors import ConfigError
from monitor.files import user_state_dir

ENVIRONMENT_PREFIX = "STETHOS_"


def load_config(path: Path | None, environment: Mapping[str, str], *, installed: bool = True) -> Config:
    """Read the configuration. ConfigError names the key and the allowed values in one line.

    Bundles that were `installed` on this node take the place of the configured ones.
    """
    config, wrong = check_settings(path, environment, installed=installed)
    if config is None:
        more = f" (and {len(wrong) - 1} more: monitor check-config)" if len(wrong) > 1 else ""
        raise ConfigError(wrong[0] + more)
    return config


def check_settings(
    path: Path | None, environment: Mapping[str, str], *, installed: bool = True
) -> tuple[Config | None, list[str]]:
    """The configuration, and one line for each wrong key. ConfigError if the file cannot be read at all."""
    settings: dict[str, Any] = {} if path is None else read_as_written(path, sections=("mqtt",))
    given: dict[Location, str] = {}
    for variable, text in sorted(environment.items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            keys = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            _override(settings, keys, text)
            given[tuple(keys)] = variable
    settings.setdefault("state_dir", _state_dir(environment))
    settings.setdefault("runtime_dir", _runtime_dir(environment))
    try:
        config = Config.model_validate(settings, context={"folder": Path() if path is None else path.parent})
        return with_installed(config) if installed else config, []
    except ValidationError as error:
        return None, [f"{_who(where, line, given) or path}: {line}" for where, line in problems(error, Config)]


def _who(where: Location, line: str, given: Mapping[Location, str]) -> str | None:
    """The environment variable that set the wrong value, even if the validator of a whole section names one of its keys."""
    of_section = (variable for keys, variable in given.items() if keys[:-1] == where and f" {keys[-1]} must" in line)
    return given.get(where) or next(of_section, None)


def _state_dir(environment: Mapping[str, str]) -> Path:
    """The state folder: systemd's, else the service's if it is writable (sudo), else the user's."""
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given)
    service = Path("/var/lib/stethos")
    if os.access(service, os.W_OK):
        return service
    return user_state_dir(environment, "stethos") or service


def _runtime_dir(environment: Mapping[str, str]) -> Path:
    """The runtime folder: systemd's, else the service's if it is running (tools connect to it), else the user's."""
    if given := environment.get("RUNTIME_DIRECTORY"):
        return Path(given)
    service, own = Path("/run/stethos"), environment.get("XDG_RUNTIME_DIR")
    return service if service.is_dir() or not own else Path(own) / "stethos"


def _override(settings: dict[str, Any], keys: list[str], text: str) -> None:
    """Put the text of STETHOS_MQTT__HOST at settings["mqtt"]["host"]. Pydantic converts it to the type of the key."""
    *parents, last = keys
    for key in parents:
        below = settings.get(key)
        settings[key] = below if isinstance(below, dict) else {}
        settings = settings[key]
    settings[last] = text
