"""configs/monitor.yaml and its JSON Schema say what the models say, no more and no less."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.bundle import load_bundle
from monitor.config import Config, IdleConfig, MqttConfig, load_config


@pytest.fixture
def shipped(root: Path) -> Path:
    return root / "configs" / "monitor.yaml"


def sections(schema: dict[str, Any]) -> Iterator[str]:
    """Every key that may be set."""
    for section in (schema, *schema["$defs"].values()):
        yield from section["properties"]


def test_it_is_valid_and_its_bundle_is_there(shipped: Path) -> None:
    config = load_config(shipped, {})
    bundle = load_bundle(config.machines["fan"].bundle)
    assert (bundle.manifest.name, bundle.is_base) == ("base", True)


def test_what_it_says_is_the_default(shipped: Path) -> None:
    config = load_config(shipped, {})
    assert config.mqtt == MqttConfig()
    machine = config.machines["fan"]
    assert machine.idle == IdleConfig()
    assert {key: value for key, value in machine if key not in ("bundle", "idle")} == {
        "name": None,
        "microphone": "default",
        "channel": None,
        "microphone_rate_hz": None,
        "enabled": True,
    }


def test_it_explains_every_key(shipped: Path) -> None:
    text = shipped.read_text()
    told = set(re.findall(r"^ *(?:# )?(\w+):", text, re.MULTILINE)) | set(re.findall(r"`(\w+): [^`]*`", text))
    assert set(sections(Config.model_json_schema())) - told == set()


def test_editors_find_the_schema(shipped: Path) -> None:
    assert shipped.read_text().splitlines()[0] == "# yaml-language-server: $schema=monitor.schema.json"
    assert shipped.with_name("monitor.schema.json").is_file()


def test_a_shipped_bundle_is_found_from_anywhere_unless_one_of_its_name_is_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text("node: hall\nmachines: {fan: {bundle: models/demo-fan}}\n")
    assert load_bundle(load_config(path, {}).machines["fan"].bundle).manifest.name == "demo-fan"
    (tmp_path / "models" / "demo-fan").mkdir(parents=True)
    assert load_config(path, {}).machines["fan"].bundle == tmp_path / "models" / "demo-fan"
