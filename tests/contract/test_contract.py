"""docs/mqtt.schema.json and docs/mqtt.md say what the code says, and the check that subscribers make finds what is wrong."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from monitor.mqtt.contract import TOPICS
from monitor.mqtt.messages import EventMessage
from tests.contract.wire import check, contract
from tests.mqtt.anomalies import anomaly

EXAMPLE = re.compile(r"^`(stethos/[^`]+)`, QoS (\d), (not )?retained\n\n```(?:json)?\n(.*?)\n```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "mqtt.md").read_text()


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(contract())


def test_every_topic_has_a_line_and_an_example_in_the_documentation(page: str) -> None:
    lines = dict(re.findall(r"^\| `<prefix>/([^`]+)` \|.*\| (\d \| (?:yes|no)) \|$", page, re.MULTILINE))
    assert lines == {topic.path: f"{topic.qos} | {'yes' if topic.retained else 'no'}" for topic in TOPICS}
    shown = {re.sub(r"^stethos/[a-z0-9-]+", "<node>", topic) for topic, *_ in EXAMPLE.findall(page)}
    paths = {topic.path for topic in TOPICS if topic.payload is not None}
    assert paths - {re.sub(r"^<node>/(fan|demo-fan)/", "<node>/<machine>/", topic) for topic in shown} == set()


def test_every_example_is_as_the_contract_says(page: str) -> None:
    for topic, qos, is_passing, payload in EXAMPLE.findall(page):
        check(topic, " ".join(payload.split()), retained=not is_passing, qos=int(qos))
        if "/set/" in topic:
            (model,) = (one.payload for one in TOPICS if one.path.endswith("/".join(topic.split("/")[-2:])))
            assert isinstance(model, type)
            model.model_validate_json(payload)


def test_every_key_of_a_message_is_explained(page: str) -> None:
    explained = set(re.findall(r"`(\w+)`", page))
    for name, model in contract()["$defs"].items():
        assert set(model.get("properties", {})) <= explained, name


def event(**changes: Any) -> str:
    return json.dumps({**anomaly(1)[0].to_dict(), **changes})


def test_the_cores_event_is_the_contracts() -> None:
    for one in anomaly(1):
        assert EventMessage.model_validate(one.to_dict()).model_dump(by_alias=True) == {
            **one.to_dict(),
            "bands": [*map(vars, one.bands)],
        }


@pytest.mark.parametrize(
    ("topic", "payload", "retained"),
    [
        ("stethos/pi/fan/anomaly", "on", True),
        ("stethos/pi/fan/event", event(), True),
        ("stethos/pi/fan/event", event(new_key=1), False),
        ("stethos/pi/fan/event", event(ts="2026-11-21T10:00:00Z"), False),
        ("stethos/pi/fan/event", event(event_type="begin"), False),
        ("stethos/pi/fan/event", event(end_reason="tired"), False),
        ("stethos/pi/fan/event", "", False),
        ("stethos/pi/fan/evnt", event(), False),
        ("stethos/pi/FAN/event", event(), False),
    ],
)
def test_what_is_not_in_the_contract_is_found(topic: str, payload: str, retained: bool) -> None:
    check("stethos/pi/fan/event", event(), retained=False, qos=1)
    with pytest.raises((AssertionError, json.JSONDecodeError)):
        check(topic, payload, retained=retained)


def test_subscribers_may_meet_keys_that_are_added_later() -> None:
    message = json.loads(event(new_key=1))
    Draft202012Validator({"$ref": "#/$defs/EventMessage", "$defs": contract()["$defs"]}).validate(message)
