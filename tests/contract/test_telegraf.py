"""configs/telegraf reads what is sent: every topic, key, type and time format is the contract's."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import tomllib  # type: ignore[import-not-found,unused-ignore]

from tests.contract.wire import contract

TYPES = {"float": "number", "int": "integer", "bool": "boolean", "string": "string"}
GO = {"2006": "%Y", "01": "%m", "02": "%d", "15": "%H", "04": "%M", "05": "%S", "000": "%f"}  # Go's way to write a format


def configuration() -> dict[str, Any]:
    path = Path(__file__).parents[2] / "configs" / "telegraf" / "stethos.conf"
    return dict(tomllib.loads(path.read_text()))


def inputs() -> list[dict[str, Any]]:
    return list(configuration()["inputs"]["mqtt_consumer"])


def test_it_prints_what_it_receives_until_a_database_is_set() -> None:
    assert configuration()["outputs"] == {"file": [{"files": ["stdout"], "data_format": "influx"}]}


def kinds(key: dict[str, Any]) -> set[str]:
    """The JSON types that a key may have."""
    choices = key.get("anyOf", [key])
    return {contract()["$defs"][one["$ref"].split("/")[-1]]["type"] if "$ref" in one else one["type"] for one in choices}


@pytest.mark.parametrize("source", inputs(), ids=lambda source: str(source["topics"][0]))
def test_every_key_is_the_contracts(source: dict[str, Any]) -> None:
    (topic,), (parsing,), (reader,) = source["topics"], source["topic_parsing"], source["json_v2"]
    said = contract()["topics"][topic.replace("stethos/+/+", "<prefix>/<node>/<machine>").replace("stethos/+", "<prefix>/<node>")]
    assert source["qos"] == said["qos"]
    assert parsing["topic"].split("/")[1:] == topic.split("/")[1:]
    assert len(parsing["tags"].split("/")) == len(topic.split("/"))
    model = contract()["$defs"][said["payload"]["$ref"].split("/")[-1]]
    for field in reader.get("tag", []):
        assert "null" not in kinds(model["properties"][field["path"]])
    for field in reader["field"]:
        found = kinds(model["properties"][field["path"]])
        assert TYPES[field["type"]] in found, field
        assert ("null" in found) == field.get("optional", False), field
    if "timestamp_path" in reader:
        form = re.sub("|".join(GO), lambda part: GO[part[0]], reader["timestamp_format"])
        (example,) = [key for key in ("2026-11-21T10:00:00.123Z",) if re.match(model["properties"]["ts"]["pattern"], key)]
        assert datetime.strptime(example, form).microsecond == 123_000
