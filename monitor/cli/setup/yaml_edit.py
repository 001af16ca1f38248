"""Change values in the text of a YAML file. Comments, order and layout of everything else stay as they are."""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import yaml

from monitor.errors import ConfigError

Keys = tuple[str, ...]  # such as ("mqtt", "host")
Scalar = str | int | bool | None
Value = Scalar | Mapping[str, Scalar]
_PLAIN = re.compile(r"[A-Za-z0-9_./+-][\w ./:+-]*")


def edit(text: str, changes: Mapping[Keys, Value]) -> str:
    """The text with these values, in this order. A mapping adds a section; a scalar in place of a section comments that out.

    ConfigError if a value cannot be changed without changing something else, as with aliases.
    """
    for keys, value in changes.items():
        wanted = _with(_as_written(text), keys, value)
        text = _set(text, keys, value)
        if _as_written(text) != wanted:
            raise ConfigError(f"{'.'.join(keys)} cannot be changed in this file; set it by hand: {_flow(value)}")
    return text


def rename(text: str, keys: Keys, name: str) -> str:
    """The text with another name for the key of a section. KeyError if there is no such key."""
    found = _find(_root(text), keys)
    if found is None:
        raise KeyError(keys)
    return _replace(text, found[0].start_mark.index, found[0].end_mark.index, name)


def _set(text: str, keys: Keys, value: Value) -> str:
    root = _root(text)
    if (found := _find(root, keys)) is not None:
        return _replace_value(text, *found, value)
    if len(keys) == 1:
        return _append(text, root, 0, keys, value)
    if (parent := _find(root, keys[:-1])) is None:
        return _set(_set(text, keys[:-1], None), keys, value)
    key, section = parent
    begin = _line_end(text, key.end_mark.index)
    if isinstance(section, yaml.MappingNode):
        return _append(text, section, begin, keys, value)
    if section.end_mark.index > key.end_mark.index + 1:  # null
        text = _replace(text, key.end_mark.index + 1, section.end_mark.index, "")
        begin = _line_end(text, key.end_mark.index)
    indent = " " * (key.start_mark.column + 2)
    return _add_lines(text, begin, begin, indent, keys, value)


def _append(text: str, section: yaml.MappingNode | None, begin: int, keys: Keys, value: Value) -> str:
    """Add a key at the end of a section, whose lines begin at `begin`."""
    if section is None:  # the file is empty
        return text + "".join(f"{line}\n" for line in _lines("", keys[-1], value))
    if _is_flow(text, section):
        at = section.start_mark.index + 1
        return f"{text[:at]}{keys[-1]}: {_flow(value)}{', ' if section.value else ''}{text[at:]}"
    return _add_lines(text, begin, _end_of(text, section), " " * section.start_mark.column, keys, value)


def _add_lines(text: str, begin: int, end: int, indent: str, keys: Keys, value: Value) -> str:
    """Add a key at `end`, or where it was commented out in the section that begins at `begin`."""
    mark = f"{indent}# {keys[-1]}:"
    at = begin
    while at < len(text):
        stop = _line_end(text, at)
        line = text[at:stop]
        if line.startswith(mark) and line[len(mark) : len(mark) + 1] in ("", " "):
            return _set(f"{text[:at]}{indent}{line[len(indent) + 2 :]}{text[stop:]}", keys, value)
        if at > begin and line.strip() and not line.startswith((indent, f"{indent[:-1]}#")):
            break  # another section
        at = stop + 1
    return text[:end] + "".join(f"\n{line}" for line in _lines(indent, keys[-1], value)) + text[end:]


def _replace_value(text: str, key: yaml.Node, node: yaml.Node, value: Value) -> str:
    after_key = key.end_mark.index + 1
    if isinstance(node, yaml.CollectionNode) and not _is_flow(text, node):
        first, last = _line_start(text, node.start_mark.index), _end_of(text, node)
        lines = (_commented(line, node.start_mark.column) for line in text[first:last].split("\n"))
        return _replace(text[:first] + "\n".join(lines) + text[last:], after_key, after_key, f" {_flow(value)}")
    if node.start_mark.index == node.end_mark.index:  # a key without a value
        return _replace(text, after_key, after_key, f" {_flow(value)}")
    return _replace(text, node.start_mark.index, node.end_mark.index, _flow(value))


def _replace(text: str, start: int, end: int, new: str) -> str:
    """Replace a part of a line. A comment after it stays in its column if there is room."""
    line_end = _line_end(text, end)
    after = text[end:line_end]
    if (comment := re.fullmatch(r"(:?)( +)(#.*)", after)) is not None:
        width = max(1, len(comment[2]) + (end - start) - len(new))
        after = f"{comment[1]}{' ' * width}{comment[3]}"
    return text[:start] + new + after + text[line_end:]


def _commented(line: str, indent: int) -> str:
    return line if not line.strip() or line.lstrip()[0] == "#" else f"{line[:indent]}# {line[indent:]}"


def _lines(indent: str, name: str, value: Value) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{indent}{name}: {_flow(value)}"
        return
    yield f"{indent}{name}:"
    for key, one in value.items():
        yield f"{indent}  {key}: {_flow(one)}"


def _flow(value: Value) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return json.dumps(value)
    is_plain = _PLAIN.fullmatch(value) and not value.endswith((":", " ")) and ": " not in value
    return value if is_plain and yaml.safe_load(value) == value else json.dumps(value, ensure_ascii=False)


def _root(text: str) -> yaml.MappingNode | None:
    node = yaml.compose(text, yaml.SafeLoader)
    return node if isinstance(node, yaml.MappingNode) else None


def _find(section: yaml.Node | None, keys: Keys) -> tuple[yaml.Node, yaml.Node] | None:
    """The nodes of a key and its value."""
    found = None
    for name in keys:
        pairs = section.value if isinstance(section, yaml.MappingNode) else ()
        found = next(((key, value) for key, value in pairs if key.value == name), None)
        if found is None:
            return None
        section = found[1]
    return found


def _as_written(text: str) -> Any:
    return yaml.load(text, yaml.BaseLoader) or {}


def _with(content: Any, keys: Keys, value: Value) -> Any:
    """The content as it must be after the change."""
    content = deepcopy(content) if isinstance(content, dict) else {}
    if len(keys) > 1:
        content[keys[0]] = _with(content.get(keys[0]), keys[1:], value)
    else:
        content[keys[0]] = yaml.load(_flow(value), yaml.BaseLoader)
    return content


def _is_flow(text: str, node: yaml.Node) -> bool:
    return text[node.start_mark.index] in "{["


def _end_of(text: str, node: yaml.Node) -> int:
    """The end of the last line of a block."""
    while isinstance(node, yaml.CollectionNode) and not _is_flow(text, node):
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    end = node.end_mark.index
    return _line_end(text, end - 1 if end and node.end_mark.column == 0 else end)


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    found = text.find("\n", index)
    return len(text) if found < 0 else found
