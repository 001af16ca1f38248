"""The bundles in use: which are refused, and why."""

import shutil
from pathlib import Path

import pytest

from monitor.config import Config
from monitor.daemon.bundles.load import load_bundles
from monitor.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path, demo_bundle: Path) -> Config:
    shutil.copytree(demo_bundle, tmp_path / "fan")
    return Config.model_validate(
        {"node": "pi", "state_dir": str(tmp_path / "state"), "machines": {"fan": {"bundle": str(tmp_path / "fan")}}}
    )


def test_a_missing_or_damaged_bundle_is_refused(config: Config, tmp_path: Path) -> None:
    assert load_bundles(config, broken={})["fan"].manifest.name == "demo-fan"
    (tmp_path / "fan" / "model.tflite").write_bytes(b"no model")
    with pytest.raises(ConfigError, match=r"machines.fan.bundle: .*model.tflite must have sha256"):
        load_bundles(config, broken={})
    shutil.rmtree(tmp_path / "fan")
    with pytest.raises(ConfigError, match=r"machines\.fan\.bundle: "):
        load_bundles(config, broken={})


def test_at_the_start_a_damaged_bundle_of_several_is_collected(config: Config, tmp_path: Path, demo_bundle: Path) -> None:
    pump = config.machines["fan"].model_copy(update={"bundle": demo_bundle})
    two = config.model_copy(update={"machines": {**config.machines, "pump": pump}})
    (tmp_path / "fan" / "model.tflite").write_bytes(b"no model")
    broken: dict[str, str] = {}
    assert list(load_bundles(two, broken=broken)) == ["pump"]
    assert list(broken) == ["fan"]
    assert broken["fan"].startswith("machines.fan.bundle: ")
    disabled = pump.model_copy(update={"enabled": False})
    for none in (config, config.model_copy(update={"machines": {**config.machines, "pump": disabled}})):
        with pytest.raises(ConfigError, match=r"machines.fan.bundle: "):
            load_bundles(none, broken={})


@pytest.mark.parametrize(("below_dbfs", "why"), [("learned", "the bundle has learned none"), (None, "got null")])
def test_silence_cannot_be_an_anomaly_without_a_level(
    config: Config, bundle_without_level: Path, below_dbfs: str | None, why: str
) -> None:
    machine = config.machines["fan"].model_copy(update={"bundle": bundle_without_level})
    idle = machine.idle.model_copy(update={"means": "anomaly", "below_dbfs": below_dbfs})
    config = config.model_copy(update={"machines": {"fan": machine.model_copy(update={"idle": idle})}})
    with pytest.raises(ConfigError, match=rf"machines\.fan\.idle\.below_dbfs must be a level .*: {why}"):
        load_bundles(config, broken={})
