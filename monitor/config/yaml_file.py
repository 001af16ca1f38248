"""Read a YAML file that must be a mapping. Every error is one line that names the file and the position."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from monitor.errors import ConfigError
from monitor.files import read_regular

CORE_TAG = "tag:yaml.org,2002:"  # `!!` in a file
NULL, MERGE = f"{CORE_TAG}null", f"{CORE_TAG}merge"
MAX_BYTES = 250_000
MAX_VALUES = 50_000  # with every alias replaced by its value
MAX_DEPTH = 50


class _Strict(yaml.SafeLoader):
    """Rejects what settings never need: duplicate keys, tags, deep nesting, aliases that multiply, text that is not Unicode.

    PyYAML alone would use the last of several duplicate keys.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._n_values = 0
        self._sizes: dict[yaml.Node, int] = {}  # values in each finished node

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if (tag := getattr(event, "tag", None)) is not None:
            raise _error(event, f"tags are not supported, got {tag.replace(CORE_TAG, '!!')}")
        if not is_text(getattr(event, "value", "")):
            raise _error(event, "text must be valid Unicode without NUL")
        if self._depth == MAX_DEPTH:
            raise _error(event, f"values are nested more than {MAX_DEPTH} deep")
        before = self._n_values
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        assert node is not None
        if not isinstance(event, yaml.AliasEvent):
            self._n_values += 1
            self._sizes[node] = self._n_values - before
        elif node in self._sizes:
            self._n_values += self._sizes[node]
        else:
            raise _error(event, f"alias {event.anchor} refers to a value that contains it")
        if self._n_values > MAX_VALUES:
            raise _error(event, f"the file has more than {MAX_VALUES} values, aliases included")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    raise _error(key, f"duplicate key {key.value}")
                seen.add(key.value)
        return node


class _AsWritten(_Strict):
    """Keeps every value but null as it is written: `yes` is not a boolean, `007` not a number, `12:30` not 45000."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own attribute)
        first: [(tag, pattern) for tag, pattern in resolvers if tag in (NULL, MERGE)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def is_text(text: str) -> bool:
    """Whether a text can be stored, sent and used as a path: it is Unicode without NUL."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys of the file, with the types that YAML gives their values. An empty file has no keys."""
    return _read(path, _Strict)


def read_as_written(path: Path, *, sections: Collection[str] = ()) -> dict[str, Any]:
    """The keys of the file, with each value as text, null, list or mapping. The model converts the values.

    A top-level key without a value, unlike one that is `null`, counts as an empty section if `sections` names it.
    """
    return _read(path, _AsWritten, sections)


def _read(path: Path, loader: type[_Strict], sections: Collection[str] = ()) -> dict[str, Any]:
    try:
        reader = loader(read_regular(path, max_bytes=MAX_BYTES).decode("utf-8-sig"))
        node = reader.get_single_node()
        content = None if node is None else reader.construct_document(node)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8 text, got byte {error.object[error.start]:#x}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: is not YAML: {_problem(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, got a {type(content).__name__}")
    for key in content:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: every key must be text, got {key}")
    return content | {key: {} for key in _without_value(node) if key in sections}


def _without_value(node: yaml.Node | None) -> list[str]:
    """The keys of a mapping that have no value at all."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return [str(key.value) for key, value in pairs if isinstance(value, yaml.ScalarNode) and not value.value and not value.style]


def _error(at: Any, problem: str) -> yaml.MarkedYAMLError:
    """The error at an event or a node."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _problem(error: Exception) -> str:
    """The problem and its position, without the surrounding text, which may contain a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    problem = "must be indented with spaces, got a tab" if "'\\t'" in str(error.problem) else error.problem
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
