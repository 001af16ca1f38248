"""A bundle takes the place of an older one whole, and what a person put there stays."""

import shutil
from datetime import datetime, timedelta, timezone
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from monitor.bundle.manifest import read_manifest
from monitor.bundle.write import created, write_bundle
from monitor.errors import ConfigError
from train.cli.main import main as train
from train.fitting.manifest import versions


@pytest.fixture
def mine(demo_bundle: Path, tmp_path: Path) -> Path:
    """A bundle with a person's files in it, and one that an older version of it needed."""
    out = tmp_path / "models" / "mine"
    shutil.copytree(demo_bundle, out)
    (out / "report/split/cut.txt").write_text("0.8\n")
    (out / "report/notes.txt").write_text("the bearing was new")
    (out / "photos").mkdir()
    (out / "photos/motor.jpg").write_bytes(b"jpeg")
    (out / "latest").symlink_to("photos/motor.jpg")
    return out


def test_files_that_no_bundle_writes_stay(mine: Path) -> None:
    manifest = read_manifest(mine)
    files = {name: (mine / name).read_bytes() for name in ("model.tflite", "statistics.npz")}
    write_bundle(mine, files, manifest)
    assert sorted(path.relative_to(mine).as_posix() for path in mine.rglob("*") if not path.is_dir() or path.is_symlink()) == [
        *("latest", "manifest.json", "model.tflite", "photos/motor.jpg", "report/notes.txt", "statistics.npz")
    ]
    assert (mine / "report/notes.txt").read_text() == "the bearing was new"
    assert (mine / "latest").is_symlink()
    assert [path.name for path in mine.parent.iterdir()] == ["mine"]


def test_through_a_link_the_bundle_that_it_leads_to_is_replaced(mine: Path) -> None:
    current = mine.with_name("current")
    current.symlink_to("mine")
    write_bundle(current, {name: (mine / name).read_bytes() for name in ("model.tflite", "statistics.npz")}, read_manifest(mine))
    assert current.is_symlink()
    assert not (mine / "report/split/cut.txt").exists()
    assert sorted(path.name for path in mine.parent.iterdir()) == ["current", "mine"]


def test_calibrating_in_place_keeps_them_and_elsewhere_leaves_them(mine: Path, tmp_path: Path) -> None:
    assert train(["synth", str(tmp_path / "set"), "--recordings", "3", "--seconds", "15"]) == 0
    for out in (mine, tmp_path / "other"):
        assert train(["calibrate", str(mine), "--on", str(tmp_path / "set"), "--out", str(out), "--sigma", "3"]) == 0
    assert (mine / "photos/motor.jpg").read_bytes() == b"jpeg"
    assert not (tmp_path / "other/photos").exists()
    assert (tmp_path / "other/report/split/train.txt").is_file()


def test_versions_come_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    first = list(versions().items())
    found = Distribution.discover
    monkeypatch.setattr(Distribution, "discover", lambda **given: reversed(list(found(**given))))
    assert list(versions().items()) == first
    assert [name for name, _ in first][:3] == ["stethos", "numpy", "tensorflow"]


def test_the_time_of_a_bundle_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert created() == datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH must be seconds since 1970, got 'yesterday'"):
        created()
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert abs(datetime.now(timezone.utc) - created()) < timedelta(seconds=10)
