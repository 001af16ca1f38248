"""`monitor --replay --clips DIR`: the files that a microphone in the recording's place would have left."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import need
from tests.replay.command import Ran, monitor
from tests.tmpfs import tmpfs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def ran(folder: Path, demo_fault: Path, demo_bundle: Path) -> Ran:
    return monitor("--replay", demo_fault, "--model", demo_bundle, "--clips", folder)


def test_every_event_names_a_clip_that_is_there_with_its_picture(ran: Ran, folder: Path) -> None:
    (name,) = {event["clip"] for event in ran.events}
    assert name == f"demo-fan-{ran.events[0]['id']}.flac"
    assert sorted(path.name for path in folder.iterdir()) == [name, name.replace(".flac", ".png")]


def test_the_clip_is_a_piece_of_the_recording(ran: Ran, folder: Path, demo_fault: Path) -> None:
    onset = ran.events[0]["onset_ts"]
    assert onset == "1970-01-01T00:00:32.798Z"  # 32 ticks after a start-up of 30 ms
    begin = round((32.798 - 5) * 16_000)
    recording, _ = soundfile.read(demo_fault, dtype="int16")
    clip, rate_hz = soundfile.read(folder / ran.events[0]["clip"], dtype="int16")
    assert rate_hz == 16_000
    assert np.array_equal(clip, recording[begin : begin + 30 * 16_000])


def test_a_second_replay_writes_the_same_bytes(
    ran: Ran, folder: Path, tmp_path: Path, demo_fault: Path, demo_bundle: Path
) -> None:
    again = monitor("--replay", demo_fault, "--model", demo_bundle, "--clips", tmp_path)
    assert again.stdout == ran.stdout
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_without_clips_the_events_are_the_same_but_for_the_name(ran: Ran, demo_fault: Path, demo_bundle: Path) -> None:
    without = monitor("--replay", demo_fault, "--model", demo_bundle)
    assert [event["clip"] for event in without.events] == [None, None, None]
    assert [{**event, "clip": None} for event in ran.events] == without.events


def test_a_normal_recording_leaves_nothing(tmp_path: Path, demo_normal: Path, demo_bundle: Path) -> None:
    monitor("--replay", demo_normal, "--model", demo_bundle, "--clips", tmp_path / "clips")
    assert list((tmp_path / "clips").iterdir()) == []


def test_private_settings_forbid_it(tmp_path: Path, demo_fault: Path, demo_bundle: Path) -> None:
    options: list[str | Path] = ["--replay", demo_fault, "--model", demo_bundle, "--clips", tmp_path / "clips"]
    refused = monitor(*options, environment={"STETHOS_PRIVATE": "true"})
    assert refused.status == 2
    assert refused.errors == ["monitor: error: --clips cannot be used with private: true in the configuration"]
    assert not (tmp_path / "clips").exists()


def test_a_full_disk_is_one_line_and_events_go_on(tmp_path: Path, demo_fault: Path, demo_bundle: Path) -> None:
    with tmpfs(tmp_path, n_bytes=100_000) as disk:
        failed = monitor("--replay", demo_fault, "--model", demo_bundle, "--clips", disk)
    assert failed.status == 1
    (line,) = failed.errors
    assert line == f"monitor: error: {disk}: cannot be written: No space left on device"
    assert [event["event_type"] for event in failed.events] == ["start", "update", "end"]
    assert failed.files[0]["verdict"] == "anomaly"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, demo_fault: Path, demo_bundle: Path) -> None:
    need(Path("/proc").is_dir(), "/proc")
    (tmp_path / "file").touch()
    for folder, why in ((Path("/proc/clips"), "No such file or directory"), (tmp_path / "file", "File exists")):
        failed = monitor("--replay", demo_fault, "--model", demo_bundle, "--clips", folder)
        assert (failed.status, failed.stdout) == (1, "")
        assert failed.errors == [f"monitor: error: {folder}: cannot be written: {why}"]
