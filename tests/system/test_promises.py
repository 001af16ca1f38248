"""The shipped bundle over hours: no event on normal sound with bangs, exactly one for each fault that grows."""

import os
import statistics
from pathlib import Path

import pytest
import soundfile

from tests.replay.command import monitor
from train.cli.main import main as train
from train.synth import FAULTS

HOURS = 3 if os.environ.get("LONG_TESTS") else 1


def test_hours_of_normal_sound_with_twenty_bangs_an_hour_give_no_event(tmp_path: Path, demo_bundle: Path) -> None:
    long = tmp_path / "long.flac"
    assert train(["synth", str(long), "--take", "2000", "--seconds", str(HOURS * 3600), "--bangs-per-hour", "20"]) == 0
    ran = monitor("--replay", long, "--model", demo_bundle, "--scores")
    assert ran.events == []
    assert ran.files[0]["duration_s"] == HOURS * 3600
    assert sum(line["ratio"] is not None for line in ran.segments) > HOURS * 3500
    peaks = [float(abs(second).max()) for second in soundfile.blocks(long, blocksize=16_000, dtype="float32")]
    assert sum(peak > 3.0 * statistics.median(peaks) for peak in peaks) > HOURS * 16  # seconds with a bang


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_grows_is_exactly_one_event(fault: str, tmp_path: Path, demo_bundle: Path) -> None:
    recording = tmp_path / f"{fault}.flac"
    growth = ["--fault", fault, "--fault-at", "120", "--grow", "120", "--repaired-at", "420"]
    assert train(["synth", str(recording), "--take", "2001", "--seconds", "540", "--bangs-per-hour", "20", *growth]) == 0
    events = monitor("--replay", recording, "--model", demo_bundle).events
    kinds = [event["event_type"] for event in events]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert set(kinds[1:-1]) == {"update"}
    assert len({event["id"] for event in events}) == 1
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert events[-1]["end_reason"] == "cleared"
    assert "1970-01-01T00:01:30" < events[0]["onset_ts"] < "1970-01-01T00:03:40"
