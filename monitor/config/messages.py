"""Readable messages for pydantic's errors: the key, the allowed values, the actual value."""

import re
from collections.abc import Sequence
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
Location = tuple[int | str, ...]


def problems(error: ValidationError, model: type[BaseModel]) -> list[tuple[Location, str]]:
    """Location and message of each problem. Values of keys that may be passwords are never shown."""
    schema = model.model_json_schema()
    return [(found["loc"], _line(found, schema)) for found in error.errors(include_url=False)]


def _line(found: ErrorDetails, schema: dict[str, Any]) -> str:
    location = [part for part in found["loc"] if part != "[key]"]
    key = ".".join(map(str, location))
    kind, message = found["type"], found["msg"]
    if kind == "missing":
        return f"{key} must be set"
    if kind == "extra_forbidden":
        return f"{key} is not a setting, {_instead(str(location[-1]), _at(location[:-1], schema))}"
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        return f"{key} {message}" if message.startswith("must ") else f"{key}: {message}" if key else message
    is_key = len(location) < len(found["loc"])
    rules = _at(location[:-1], schema).get("propertyNames", {}) if is_key else _at(location, schema)
    got = "" if "password" in key else f", got {_shown(found['input'])}"
    return f"{key} {_allowed(kind, message, rules)}{got}"


def _allowed(kind: str, message: str, rules: dict[str, Any]) -> str:
    if kind == "string_pattern_mismatch" and "patternErrorMessage" in rules:
        return str(rules["patternErrorMessage"])
    if kind in ("greater_than_equal", "less_than_equal") and "minimum" in rules and "maximum" in rules:
        return f"must be in {rules['minimum']}..{rules['maximum']}"
    expected, _, how = kind.rpartition("_")
    if how in ("type", "parsing", "size") and expected in KINDS:
        return f"must be {KINDS[expected]}"
    for subject in ("Input", "String", "Value"):
        message = message.removeprefix(f"{subject} should ")
    return f"must {message}"


def _at(location: Sequence[int | str], schema: dict[str, Any]) -> dict[str, Any]:
    """The part of the JSON Schema that describes the value at a location."""
    here = schema
    for part in location:
        by_pattern: dict[str, Any] = next(iter(here.get("patternProperties", {}).values()), {})
        found = here.get("properties", {}).get(part, by_pattern)
        choices = [found, *found.get("anyOf", ())]
        reference = next((choice["$ref"] for choice in choices if "$ref" in choice), None)
        if reference is not None:
            here = schema["$defs"][reference.rpartition("/")[2]]
        else:
            here = {rule: value for choice in choices for rule, value in choice.items()}
    return here


def _instead(name: str, section: dict[str, Any]) -> str:
    known = list(section.get("properties", {}))
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"must be one of {', '.join(known)}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a section of keys" if isinstance(value, dict) else "a list"
    text = value if isinstance(value, str) and re.fullmatch(r"[\w.+-]+", value) else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
