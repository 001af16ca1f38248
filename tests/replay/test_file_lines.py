"""The JSON line of a file: verdict, severity and description."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.replay.command import Ran, monitor

RATE_HZ = 16000
FAULT = slice(70 * RATE_HZ, 84 * RATE_HZ)  # of the demo's: the bearing is bad all the while


def clip(folder: Path, sound: Path, seconds: float) -> Path:
    """So much of the fault, or of any other sound at the same place."""
    samples, _ = soundfile.read(sound, dtype="float32")
    start = FAULT.start if len(samples) > FAULT.stop else 0
    path = folder / f"{sound.stem}-{seconds:g}.wav"
    soundfile.write(path, samples[start : start + round(seconds * RATE_HZ)], RATE_HZ)
    return path


def file_line(ran: Ran) -> dict[str, object]:
    (line,) = ran.files
    return line


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0, 10.0, 14.0])
def test_a_clip_is_described_however_short_it_is(seconds: float, tmp_path: Path, demo_fault: Path, demo_bundle: Path) -> None:
    line = file_line(monitor("--replay", clip(tmp_path, demo_fault, seconds), "--model", demo_bundle))
    assert (line["verdict"], line["severity"]) == ("anomaly", "alarm")
    assert any(band["low_hz"] < 3100 < band["high_hz"] and band["excess_db"] > 15 for band in line["bands"])  # type: ignore[attr-defined]
    assert "dB more than usual at" in str(line["summary"])
    if seconds >= 3.0:
        assert "impulses about 87 times a second" in str(line["summary"])


def test_a_normal_file_has_no_description(demo_normal: Path, demo_bundle: Path) -> None:
    line = file_line(monitor("--replay", demo_normal, "--model", demo_bundle))
    assert (line["verdict"], line["severity"], line["bands"], line["summary"]) == ("normal", None, [], None)


def test_a_file_between_the_two_levels_is_a_warning(tmp_path: Path, demo_fault: Path, bundle_of_two_levels: Path) -> None:
    whole = monitor("--replay", demo_fault, "--model", bundle_of_two_levels, "--fail-on-anomaly")
    line = file_line(whole)
    assert 1.0 < float(str(line["ratio"])) < 6.0
    assert (whole.status, line["verdict"], line["severity"]) == (3, "anomaly", "warning")
    loud = monitor("--replay", clip(tmp_path, demo_fault, 10.0), "--model", bundle_of_two_levels)
    assert file_line(loud)["severity"] == "alarm"


def test_a_long_file_is_described_by_its_most_abnormal_segment(
    tmp_path: Path, demo_normal: Path, demo_fault: Path, demo_bundle: Path
) -> None:
    """The fault in the middle of minutes of normal sound is named as if it had been alone, not diluted."""
    normal, fault = (soundfile.read(path, dtype="float32")[0] for path in (demo_normal, demo_fault))
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate((normal, fault[FAULT], normal, normal)), RATE_HZ)
    ran = monitor("--replay", path, "--model", demo_bundle, "--scores")
    long, short = file_line(ran), file_line(monitor("--replay", clip(tmp_path, demo_fault, 10.0), "--model", demo_bundle))
    assert long["verdict"] == "anomaly"
    strongest = [max(band["excess_db"] for band in line["bands"]) for line in (long, short)]  # type: ignore[attr-defined]
    assert strongest[0] == pytest.approx(strongest[1], abs=2.0)


def test_a_file_that_ends_in_silence_is_still_described(tmp_path: Path, demo_fault: Path, demo_bundle: Path) -> None:
    samples, _ = soundfile.read(demo_fault, dtype="float32")
    path = tmp_path / "cut.wav"
    soundfile.write(path, np.concatenate((samples[FAULT][: 3 * RATE_HZ], np.zeros(40 * RATE_HZ, np.float32))), RATE_HZ)
    assert "dB more than usual at" in str(file_line(monitor("--replay", path, "--model", demo_bundle))["summary"])


def test_a_file_without_a_score_has_no_description(tmp_path: Path, demo_bundle: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE_HZ, np.float32), RATE_HZ)
    line = file_line(monitor("--replay", tmp_path / "silence.wav", "--model", demo_bundle))
    assert (line["verdict"], line["severity"], line["bands"], line["summary"]) == ("unknown", None, [], None)


def test_a_bundle_without_statistics_gives_a_severity_and_no_bands(tmp_path: Path, demo_fault: Path, demo_bundle: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    manifest = json.loads((demo_bundle / "manifest.json").read_text())
    del manifest["detector"]["statistics"]
    manifest["calibration"].pop("fast_threshold", None)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "model.tflite").write_bytes((demo_bundle / "model.tflite").read_bytes())
    line = file_line(monitor("--replay", demo_fault, "--model", folder))
    assert (line["severity"], line["bands"]) == ("alarm", [])
    assert line["summary"] == "sounds different, with no single band standing out"


def test_a_person_reads_of_warning_and_alarm(demo_fault: Path, bundle_of_two_levels: Path) -> None:
    said = monitor("--replay", demo_fault, "--model", bundle_of_two_levels).stderr.splitlines()
    words = [line.partition("demo-fan  ")[2].partition(":")[0] for line in said[1:-1]]
    assert words == ["WARNING STARTED", "WARNING became ALARM", "ALARM ended (cleared)"]
    assert said[-1].startswith(f"{demo_fault}: WARNING (2.65 x the file threshold, 1 event); ")
