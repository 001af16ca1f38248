"""configs/monitor.yaml and its JSON Schema say what the models say, no more and no less."""

import re
import subprocess
import sys
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
    assert load_bundle(config.machines["fan"].bundle).manifest.name == "demo-fan"


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


def test_the_schema_for_editors_is_what_the_models_say(shipped: Path) -> None:
    assert shipped.read_text().splitlines()[0] == "# yaml-language-server: $schema=monitor.schema.json"
    made = subprocess.run([sys.executable, "-m", "monitor.config"], capture_output=True, text=True, check=True).stdout
    kept = shipped.with_name("monitor.schema.json").read_text()
    assert kept == made, "make it anew: python -m monitor.config >configs/monitor.schema.json"
