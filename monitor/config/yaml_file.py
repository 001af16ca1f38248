"""Read a YAML file that must be a mapping. Every error is one line that names the file."""

from pathlib import Path
from typing import Any

import yaml

from monitor.errors import ConfigError

NULL = "tag:yaml.org,2002:null"
MERGE = "tag:yaml.org,2002:merge"


class _Unique(yaml.SafeLoader):
    """Rejects duplicate keys. PyYAML alone would use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(problem=f"duplicate key {key.value}", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _AsWritten(_Unique):
    """Keeps every value but null as it is written: `yes` is not a boolean, `007` not a number, `12:30` not 45000."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own attribute)
        first: [(tag, pattern) for tag, pattern in resolvers if tag in (NULL, MERGE)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys of the file, with the types that YAML gives their values. An empty file has no keys."""
    return _read(path, _Unique)


def read_as_written(path: Path) -> dict[str, Any]:
    """The keys of the file, with each value as text, null, list or mapping. The model converts the values."""
    return _read(path, _AsWritten)


def _read(path: Path, loader: type[yaml.SafeLoader]) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text("utf-8-sig"), loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8 text, got byte {error.object[error.start]:#x}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not YAML: {_problem(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, got a {type(content).__name__}")
    for key in content:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: every key must be text, got {key}")
    return content


def _problem(error: Exception) -> str:
    """The problem and its position, without the surrounding text, which may contain a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    problem = "must be indented with spaces, got a tab" if "'\\t'" in str(error.problem) else error.problem
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
