"""Expand a pattern such as `s3://plant/{hall}/{machine}/` over the folders that exist."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monitor.config.yaml_file import is_text
from monitor.errors import ConfigError, printable
from train.fleet.places import file_system, is_remote

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def found_folders(pattern: str, options: Mapping[str, Any], *, below: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The folders that match, in the order of their names, with the values of the placeholders.

    A relative path is below a folder, whose own braces are no placeholders.
    A placeholder matches within one component of the path; one that occurs twice matches the same text. Hidden folders are
    left out. ConfigError where nothing matches or a placeholder is malformed.
    """
    for name in _PLACEHOLDER.findall(pattern):
        if not _NAME.fullmatch(name):
            raise ConfigError(f"recordings: a placeholder must be a name of a-z, 0-9 and _, got {{{name}}}")
    if "{" in (rest := _PLACEHOLDER.sub("", pattern)) or "}" in rest:
        raise ConfigError(f"recordings: braces must enclose a placeholder, got {pattern}")
    head, components = _parts(pattern)
    if not is_remote(pattern):
        head = str(below / head)
    found = [(head, dict[str, str]())]
    if components and not is_remote(head) and not Path(head).is_dir():
        raise ConfigError(f"recordings: there is no folder {printable(head)}")
    for component in components:
        found = [one for at, values in found for one in _step(at, values, component, options)]
        if not found:
            raise ConfigError(f"recordings: no folder matches {pattern}: nothing matches {component}")
    yield from found


def fill(text: str, values: Mapping[str, str], *, key: str) -> str:
    """The text with its placeholders replaced. ConfigError for one that the recordings' pattern does not have."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            known = ", ".join(f"{{{name}}}" for name in values) or "none"
            raise ConfigError(f"{key}: placeholders are those of recordings ({known}), got {found[0]}")
        return values[found[1]]

    return _PLACEHOLDER.sub(value, text)


def _parts(pattern: str) -> tuple[str, list[str]]:
    """The leading part without placeholders, and the components after it."""
    before, brace, _ = pattern.partition("{")
    head = before[: before.rfind("/") + 1] if brace else pattern
    return head.rstrip("/") or head[:1], [part for part in pattern[len(head) :].split("/") if part]


def _step(at: str, values: dict[str, str], component: str, options: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """The folders one level below that match a component."""
    if "{" not in component:
        if component in _folders(at, options):
            yield _join(at, component), values
        return
    pattern, seen = "", set(values)
    for n, part in enumerate(_PLACEHOLDER.split(component)):
        if n % 2 == 0:
            pattern += re.escape(part)
        elif part in values:
            pattern += re.escape(values[part])
        else:
            pattern += f"(?P={part})" if part in seen else f"(?P<{part}>[^/]+)"
            seen.add(part)
    for name in _folders(at, options):
        if not is_text(name):
            raise ConfigError(f"recordings: {at} has a folder whose name is not UTF-8: {name!r}")
        if not name.startswith(".") and (match := re.fullmatch(pattern, name)) is not None:
            yield _join(at, name), {**values, **match.groupdict()}


def _join(at: str, name: str) -> str:
    return f"{at.rstrip('/')}/{name}"


def _folders(at: str, options: Mapping[str, Any]) -> list[str]:
    """The names of the folders in a folder, sorted; none where there is no such folder."""
    try:
        if not is_remote(at):
            with os.scandir(at or "/") as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        fs, path = file_system(at, options)
        folders = [str(one["name"]) for one in fs.ls(path, detail=True) if one["type"] == "directory"]
        return sorted(name.rstrip("/").rpartition("/")[2] for name in folders)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except ConfigError as error:
        raise ConfigError(f"recordings: {error}") from error
    except Exception as error:
        raise ConfigError(f"recordings: {at} cannot be listed: {printable(' '.join(str(error).split()))[:300]}") from error
