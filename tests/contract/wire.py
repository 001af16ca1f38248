"""What docs/mqtt.schema.json says of every message that a test's subscriber hears; the subscribers call `check`."""

import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from tests.conftest import ROOT

SLUG = "[a-z0-9_-]{1,64}"
MADE_UP = "/made-up"  # in topics of tests that are about carrying messages, whatever they say


@cache
def contract() -> dict[str, Any]:
    return dict(json.loads((ROOT / "docs" / "mqtt.schema.json").read_text()))


@cache
def _topics() -> list[tuple[re.Pattern[str], dict[str, Any], Draft202012Validator]]:
    """Each topic's pattern, what is said of it, and who checks its payload: here keys that are not known are errors."""
    strict = {name: {"additionalProperties": False, **model} for name, model in contract()["$defs"].items()}
    topics = []
    for path, said in contract()["topics"].items():
        pattern = re.sub("<[a-z]+>", SLUG, path.replace("<prefix>", "[^#+]+"))
        topics.append((re.compile(pattern), said, Draft202012Validator({**said["payload"], "$defs": strict})))
    return topics


def check(topic: str, payload: str, *, retained: bool, qos: int | None = None) -> None:
    """Fail where the message is not as the contract says."""
    if MADE_UP in topic or "/set/" in topic or topic.endswith("/bundle/desired"):  # the latter are sent to the node
        return
    if topic.startswith("homeassistant/"):
        assert payload == "" or topic == "homeassistant/status" or set(json.loads(payload)) >= {"device", "origin", "components"}
        return
    said = validator = None
    for pattern, *found in _topics():
        if pattern.fullmatch(topic):
            said, validator = found
    assert said is not None and validator is not None, f"{topic} is not in docs/mqtt.schema.json"
    assert said["retained"] or not retained, f"{topic} must not be retained"
    assert qos in (None, said["qos"]), f"{topic} must have QoS {said['qos']}, got {qos}"
    if payload == "" and said["retained"]:
        return  # taken back
    is_text = "$ref" not in said["payload"]
    wrong = [error.message for error in validator.iter_errors(payload if is_text else json.loads(payload))]
    assert not wrong, f"{topic}: {wrong}, got {payload}"
