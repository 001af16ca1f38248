"""Readable messages for pydantic's errors: the key, the allowed values, the actual value."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "dict": "a section of keys",
    "model": "a section of keys",
}
SECRETS = re.compile(r".*password.*|notify(\.[^.]*)?(\.url\w*)?|update\.url")  # keys whose values are not shown
MAX_SHOWN = 80  # characters of a key or value
Location = tuple[int | str, ...]


def problems(error: ValidationError, model: type[BaseModel]) -> list[tuple[Location, str]]:
    """Location and message of each problem, a printable line. Values of keys that may be passwords are never shown."""
    schema = model.model_json_schema()
    return [(found["loc"], _line(found, schema)) for found in error.errors(include_url=False)]


def _line(found: ErrorDetails, schema: dict[str, Any]) -> str:
    location, kind, message = found["loc"], found["type"], found["msg"]
    is_key = kind != "extra_forbidden" and location[-1:] == ("[key]",)
    location = location[:-1] if is_key else location
    key = ".".join(_named(part) for part in location)
    if kind == "missing":
        return f"{key} must be set"
    if kind == "extra_forbidden":
        return f"{key} is not a setting, {_instead(location, schema)}"
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        return f"{key} {message}" if message.startswith("must ") else f"{key}: {message}" if key else message
    rules = _at(location[:-1], schema).get("propertyNames", {}) if is_key else _at(location, schema)
    got = "" if SECRETS.fullmatch(key) else f", got {shown(found['input'])}"
    return f"{key} {_allowed(kind, message, rules)}{got}"


def _allowed(kind: str, message: str, rules: dict[str, Any]) -> str:
    if kind == "string_pattern_mismatch" and "patternErrorMessage" in rules:
        return str(rules["patternErrorMessage"])
    if kind in ("greater_than_equal", "less_than_equal") and "minimum" in rules and "maximum" in rules:
        low, high = (int(limit) if limit == int(limit) else limit for limit in (rules["minimum"], rules["maximum"]))
        return f"must be in {low}..{high}"
    expected, _, how = kind.rpartition("_")
    if how in ("type", "parsing", "size") and expected in KINDS:
        return f"must be {KINDS[expected]}"
    if kind in ("string_unicode", "invalid_key"):
        return "must be text"
    for subject in ("Input", "String", "Value"):
        message = message.removeprefix(f"{subject} should ")
    return f"must {message}"


def _at(location: Sequence[int | str], schema: dict[str, Any]) -> dict[str, Any]:
    """The part of the JSON Schema that describes the value at a location."""
    here = schema
    for part in location:
        by_pattern: dict[str, Any] = next(iter(here.get("patternProperties", {}).values()), {})
        found = here.get("items", {}) if isinstance(part, int) else here.get("properties", {}).get(part, by_pattern)
        choices = [found, *found.get("anyOf", ())]
        reference = next((choice["$ref"] for choice in choices if "$ref" in choice), None)
        if reference is not None:
            here = schema["$defs"][reference.rpartition("/")[2]]
        else:
            here = {rule: value for choice in choices for rule, value in choice.items()}
    return here


def _instead(location: Sequence[int | str], schema: dict[str, Any]) -> str:
    """The setting that was probably meant: one with this name in another section, or one with a similar name."""
    *_, name = whole = [str(part) for part in location]
    known = list(_at(location[:-1], schema).get("properties", {}))
    everywhere = list(_keys(schema))
    close = [key for key in everywhere if key.rpartition(".")[2] == name]
    close += get_close_matches(name, known, n=1, cutoff=0.7)
    close += get_close_matches(".".join(whole), everywhere, n=1, cutoff=0.8)
    return f"did you mean {close[0]}?" if close else f"must be one of {', '.join(known)}"


def _keys(schema: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[str]:
    """All settings, such as mqtt.host and machines.ID.bundle."""
    section = _at(above, schema)
    for name in ("ID",) if "patternProperties" in section else section.get("properties", ()):
        yield ".".join((*above, name))
        yield from _keys(schema, (*above, name))


def _named(part: int | str) -> str:
    return str(part) if str(part).isprintable() and len(str(part)) <= MAX_SHOWN else shown(part)


def shown(value: object) -> str:
    """A value in a message: printable and short."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a section of keys" if isinstance(value, dict) else "a list"
    text = value if isinstance(value, str) and re.fullmatch(r"[\w.+-]+", value) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
