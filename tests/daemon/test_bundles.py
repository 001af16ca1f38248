"""The bundles in use survive what happens to the folder that the configuration names."""

import shutil
from pathlib import Path

import pytest

from monitor.config import Config
from monitor.daemon.bundles import load_bundles
from monitor.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path, demo_bundle: Path) -> Config:
    shutil.copytree(demo_bundle, tmp_path / "fan")
    return Config.model_validate(
        {"node": "pi", "state_dir": str(tmp_path / "state"), "machines": {"fan": {"bundle": str(tmp_path / "fan")}}}
    )


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_bundle_that_is_gone_is_the_one_that_was_kept(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = load_bundles(config)["fan"]
    shutil.rmtree(tmp_path / "fan")
    assert load_bundles(config)["fan"].id == before.id
    assert "using the last one that was accepted" in caplog.text


def test_a_damaged_bundle_does_not_replace_the_kept_one(config: Config, tmp_path: Path) -> None:
    before = load_bundles(config)["fan"]
    (tmp_path / "fan" / "model.tflite").write_bytes(b"no model")
    assert load_bundles(config)["fan"].id == before.id
    assert load_bundles(config)["fan"].id == before.id
    with pytest.raises(ConfigError, match=r"machines.fan.bundle: .*model.tflite must have sha256"):
        load_bundles(config, fall_back=False)  # a reload keeps what runs, and says so


def test_a_bundle_is_written_once(config: Config, tmp_path: Path) -> None:
    load_bundles(config)
    before = tree(tmp_path / "state")
    load_bundles(config)
    assert tree(tmp_path / "state") == before


def test_where_nothing_was_kept_a_missing_bundle_is_refused(config: Config, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "fan")
    with pytest.raises(ConfigError, match=r"machines\.fan\.bundle: "):
        load_bundles(config)


def test_a_state_directory_that_cannot_be_written_is_said_and_harmless(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("not a folder")
    assert load_bundles(config)["fan"].manifest.name == "demo-fan"
    assert "cannot write the copy of the bundle" in caplog.text


@pytest.mark.parametrize(("below_dbfs", "why"), [("learned", "the bundle has learned none"), (None, "got null")])
def test_silence_cannot_be_an_anomaly_without_a_level(
    config: Config, bundle_without_level: Path, below_dbfs: str | None, why: str
) -> None:
    machine = config.machines["fan"].model_copy(update={"bundle": bundle_without_level})
    idle = machine.idle.model_copy(update={"means": "anomaly", "below_dbfs": below_dbfs})
    config = config.model_copy(update={"machines": {"fan": machine.model_copy(update={"idle": idle})}})
    with pytest.raises(ConfigError, match=rf"machines\.fan\.idle\.below_dbfs must be a level .*: {why}"):
        load_bundles(config)
