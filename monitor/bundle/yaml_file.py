"""Read a YAML file that must be a mapping; every failure is one line that names the file."""

from pathlib import Path
from typing import Any

import yaml

from monitor.core.errors import ConfigError


def read_mapping(path: Path) -> dict[str, Any]:
    """The file's keys; an empty file has none."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8 text, got byte {error.object[error.start]:#x}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: must be a mapping of keys, got a {type(content).__name__}")
    return content
