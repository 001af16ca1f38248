"""`monitor --replay` on recordings of every kind."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests.replay.command import Ran, monitor
from tests.signals import noise


@pytest.fixture(scope="session")
def fault(demo_fault: Path, demo_bundle: Path) -> Ran:
    return monitor("--replay", demo_fault, "--model", demo_bundle)


@pytest.fixture(scope="session")
def normal_samples(demo_normal: Path) -> np.typing.NDArray[np.float64]:
    samples: np.typing.NDArray[np.float64] = soundfile.read(demo_normal)[0]
    return samples


def test_the_demo_fault_is_one_event_that_starts_and_ends(fault: Ran) -> None:
    assert fault.status == 0
    assert [event["event_type"] for event in fault.events] == ["start", "update", "end"]
    start, *_, end = fault.events
    assert start["ratio"] > 1
    assert start["machine"] == "demo-fan"
    assert start["ts"].startswith("1970-01-01T00:00:")
    assert end["end_reason"] == "cleared"
    assert end["peak_ratio"] > 5
    assert any(band["low_hz"] < 3100 < band["high_hz"] for band in start["bands"])
    (file,) = fault.files
    assert file["verdict"] == "anomaly"
    assert (file["duration_s"], file["n_events"], file["error"]) == (140.0, 1, None)


def test_a_person_reads_what_happened_on_stderr(fault: Ran) -> None:
    said = [line for line in fault.stderr.splitlines() if "demo-fan" in line]
    assert "normal" in said[0]
    assert "ALARM STARTED" in said[1]
    assert "x the threshold" in said[1]
    assert any("ALARM ended (cleared)" in line for line in said)


def test_on_a_terminal_the_bar_makes_way_for_what_is_said(demo_fault: Path, demo_bundle: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    with os.fdopen(ours, "rb", buffering=0) as screen:
        command = [sys.executable, "-m", "monitor.cli.main", "--replay", str(demo_fault), "--model", str(demo_bundle)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as run:
            os.close(theirs)
            written = b""
            with suppress(OSError):  # EIO: the other end is closed
                while piece := screen.read(4096):
                    written += piece
    assert run.returncode == 0
    lines = written.decode().split("\r\n")
    said = [line for line in lines if "  ALARM" in line]
    assert len(said) == 3
    assert all("fan-bearing.flac:" in line for line in said[:2])  # the bar stood there
    assert all(re.fullmatch(r"[0-9:]{8}  demo-fan  ALARM .*", line.rpartition("\r")[2]) for line in said)


def test_output_is_identical_on_every_run(fault: Ran, demo_fault: Path, demo_bundle: Path) -> None:
    assert monitor("--replay", demo_fault, "--model", demo_bundle).stdout == fault.stdout


def test_scores_add_one_line_a_segment_and_options_stand_anywhere(
    fault: Ran, demo_fault: Path, demo_normal: Path, demo_bundle: Path
) -> None:
    after = monitor("--replay", demo_normal, demo_fault, "--scores", "--model", demo_bundle)
    before = monitor("--scores", "--model", str(demo_bundle), "--replay", demo_normal, demo_fault)
    assert after.stdout == before.stdout
    assert [event["ts"] for event in after.events] == [event["ts"] for event in fault.events]
    assert [Path(file["file"]).name for file in after.files] == ["fan-normal.flac", "fan-bearing.flac"]
    of_fault = [line for line in after.segments if line["file"].endswith("fan-bearing.flac")]
    assert len(of_fault) == 137
    assert of_fault[0]["score"] is None
    assert {line["state"] for line in of_fault} == {"starting", "normal", "anomaly"}


def test_each_file_is_a_stream_of_its_own(demo_normal: Path, demo_fault: Path, demo_bundle: Path) -> None:
    alone = monitor("--replay", demo_normal, "--model", demo_bundle)
    after_another = monitor("--replay", demo_fault, demo_normal, "--model", demo_bundle)
    assert after_another.files[1] == alone.files[0]


def test_a_clip_shorter_than_a_segment_still_has_a_score_and_a_verdict(
    normal_samples: np.typing.NDArray[np.float64], tmp_path: Path, demo_bundle: Path
) -> None:
    for seconds in (10, 1):
        clip = tmp_path / f"{seconds}.wav"
        soundfile.write(clip, normal_samples[: seconds * 16000], 16000)
        (file,) = monitor("--replay", clip, "--model", demo_bundle).files
        assert file["score"] > 0
        assert file["verdict"] in ("normal", "anomaly")
        assert file["ratio"] == pytest.approx(file["score"] / file["threshold"], abs=1e-3)


def test_a_clip_too_short_for_any_score_says_so(tmp_path: Path, demo_bundle: Path) -> None:
    soundfile.write(tmp_path / "click.wav", noise(1, 800), 16000)
    ran = monitor("--replay", tmp_path / "click.wav", "--model", demo_bundle)
    (file,) = ran.files
    assert (ran.status, file["score"], file["ratio"], file["verdict"]) == (0, None, None, "unknown")


def test_a_name_that_is_no_text_is_heard_as_any_other(demo_normal: Path, tmp_path: Path, demo_bundle: Path) -> None:
    odd = tmp_path / os.fsdecode(b"l\xfcfter.flac")
    odd.write_bytes(demo_normal.read_bytes())
    want, got = monitor("--replay", demo_normal, odd, "--model", demo_bundle).files
    assert (got["score"], got["error"]) == (want["score"], None)


def test_a_file_that_is_called_minus_is_not_the_standard_input(
    demo_normal: Path, demo_fault: Path, tmp_path: Path, demo_bundle: Path
) -> None:
    (tmp_path / "-").write_bytes(demo_normal.read_bytes())
    with demo_fault.open("rb") as stdin:
        command = [sys.executable, "-m", "monitor.cli.main", "--model", str(demo_bundle), "--replay", "-"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, cwd=tmp_path, env=environment, stdin=stdin, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout.splitlines()[-1])["verdict"]) == (0, "normal"), done.stderr


@pytest.mark.parametrize(
    ("name", "subtype", "channels", "tolerance"),
    [
        ("pcm16.wav", "PCM_16", 1, 0.0),
        ("pcm24.wav", "PCM_24", 1, 1e-3),
        ("float.wav", "FLOAT", 1, 1e-3),
        ("eight.wav", "PCM_16", 8, 1e-3),
        ("plain.flac", "PCM_16", 1, 0.0),
        ("stereo.flac", "PCM_24", 2, 1e-3),
        ("apple.aiff", "PCM_16", 1, 0.0),
        ("vorbis.ogg", "VORBIS", 1, None),
        ("layer3.mp3", "MPEG_LAYER_III", 1, None),
    ],
)
def test_every_format_gives_the_same_verdict(
    name: str,
    subtype: str,
    channels: int,
    tolerance: float | None,
    normal_samples: np.typing.NDArray[np.float64],
    demo_normal: Path,
    tmp_path: Path,
    demo_bundle: Path,
) -> None:
    soundfile.write(tmp_path / name, np.repeat(normal_samples[:, None], channels, axis=1), 16000, subtype=subtype)
    want, got = monitor("--replay", demo_normal, tmp_path / name, "--model", demo_bundle).files
    assert got["error"] is None
    assert got["duration_s"] == pytest.approx(20.0, abs=0.1)
    if tolerance is not None:  # lossy formats take the quiet bands away, which is a change of sound
        assert got["score"] == pytest.approx(want["score"], rel=tolerance)


@pytest.mark.parametrize("rate_hz", [22050, 44100, 48000, 96000])
def test_every_rate_is_resampled(
    rate_hz: int, normal_samples: np.typing.NDArray[np.float64], tmp_path: Path, demo_bundle: Path
) -> None:
    path = tmp_path / f"{rate_hz}.wav"
    soundfile.write(path, soxr.resample(normal_samples, 16000, rate_hz), rate_hz, subtype="FLOAT")
    beforehand = tmp_path / "16000.wav"
    soundfile.write(beforehand, soxr.resample(soundfile.read(path, dtype="float32")[0], rate_hz, 16000), 16000, subtype="FLOAT")
    got, want = monitor("--replay", path, beforehand, "--model", demo_bundle).files
    assert got["duration_s"] == pytest.approx(20.0, abs=0.01)
    assert got["score"] == pytest.approx(want["score"], rel=1e-6)


def test_one_channel_can_be_picked(
    normal_samples: np.typing.NDArray[np.float64], tmp_path: Path, demo_normal: Path, demo_bundle: Path
) -> None:
    both = np.stack((noise(1, len(normal_samples), level=0.3), normal_samples), axis=1)
    soundfile.write(tmp_path / "two.wav", both, 16000)
    want = monitor("--replay", demo_normal, "--model", demo_bundle).files[0]["score"]
    assert monitor("--replay", tmp_path / "two.wav", "--channel", "2", "--model", demo_bundle).files[0]["score"] == want
    assert monitor("--replay", tmp_path / "two.wav", "--channel", "1", "--model", demo_bundle).files[0]["verdict"] == "anomaly"


def test_started_at_moves_every_time_and_nothing_else(fault: Ran, demo_fault: Path, demo_bundle: Path) -> None:
    moved = monitor("--replay", demo_fault, "--model", demo_bundle, "--started-at", "2026-11-21T10:00:00Z")
    for before, after in zip(fault.events, moved.events, strict=True):
        assert after["ts"] == before["ts"].replace("1970-01-01T00:", "2026-11-21T10:")
        assert after["onset_ts"] == before["onset_ts"].replace("1970-01-01T00:", "2026-11-21T10:")
        assert (before["clock_synced"], after["clock_synced"]) == (False, True)
        same = {"ts", "onset_ts", "clock_synced"}
        assert {key: before[key] for key in before if key not in same} == {key: after[key] for key in after if key not in same}


def test_speed_one_takes_as_long_as_the_sound(
    normal_samples: np.typing.NDArray[np.float64], tmp_path: Path, demo_bundle: Path
) -> None:
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, normal_samples[: 5 * 16000], 16000)
    began = time.monotonic()
    paced = monitor("--replay", clip, "--model", demo_bundle, "--speed", "1")
    assert time.monotonic() - began >= 5.0
    assert paced.stdout == monitor("--replay", clip, "--model", demo_bundle).stdout


def test_fail_on_anomaly_exits_with_three(demo_fault: Path, demo_normal: Path, demo_bundle: Path) -> None:
    assert monitor("--replay", demo_fault, "--model", demo_bundle, "--fail-on-anomaly").status == 3
    assert monitor("--replay", demo_normal, "--model", demo_bundle, "--fail-on-anomaly").status == 0


def test_a_machine_from_the_configuration(tmp_path: Path, demo_bundle: Path, demo_fault: Path) -> None:
    config = tmp_path / "monitor.yaml"
    config.write_text(json.dumps({"node": "hall-2", "machines": {"fan-1": {"bundle": str(demo_bundle)}}}))
    for extra in ([], ["--machine", "fan-1"]):
        start = monitor("--replay", demo_fault, "--config", config, *extra).events[0]
        assert (start["node"], start["machine"]) == ("hall-2", "fan-1")
    start = monitor("--replay", demo_fault, "--config", config, environment={"STETHOS_NODE": "hall-3"}).events[0]
    assert start["node"] == "hall-3"


@pytest.mark.skipif("EMULATED" in os.environ, reason="the emulator's own memory would count")
def test_memory_does_not_grow_with_the_length_of_a_file(
    tmp_path: Path, demo_bundle: Path, record_property: Callable[[str, object], None]
) -> None:
    peaks = []
    for minutes in (2, 60):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
            for minute in range(minutes):
                file.write(noise(minute, 60 * 16000))
        code = (  # VmHWM, not ru_maxrss: that counts what the parent held when it forked
            "import sys; from monitor.cli.main import main; status = main(sys.argv[1:]); "
            "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')), file=sys.stderr); sys.exit(status)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, "--replay", str(path), "--model", str(demo_bundle)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(run.stderr.split()[-2]) / 1024)
    short, long = peaks
    record_property("figures", f"peak memory {short:.1f} MB for 2 minutes, {long:.1f} MB for 60")
    assert long < 80.0, f"peak memory {long:.1f} MB"
    assert long - short < 2.0, f"peak memory {short:.1f} -> {long:.1f} MB"


@pytest.mark.parametrize("declared", [True, False])
def test_sound_that_was_recorded_at_8_khz_is_unknown_at_a_bundle_of_16_khz(
    declared: bool, normal_samples: np.typing.NDArray[np.float64], tmp_path: Path, demo_bundle: Path
) -> None:
    low = soxr.resample(normal_samples, 16000, 8000)
    samples, rate_hz = (low, 8000) if declared else (soxr.resample(low, 8000, 16000), 16000)
    soundfile.write(tmp_path / "low.wav", samples, rate_hz)
    ran = monitor("--replay", tmp_path / "low.wav", "--model", demo_bundle, "--scores", "--fail-on-anomaly")
    (file,) = ran.files
    assert (ran.status, ran.events) == (1 if declared else 0, [])
    assert (file["verdict"], file["score"], file["reason"]) == ("unknown", None, "bandwidth")
    assert ran.segments[-1]["state"] == "unknown"
    assert {line["reason"] for line in ran.segments[10:]} == {"bandwidth"}
    problem = "recorded at 8000 Hz, but demo-fan@"
    assert [problem in line for line in ran.errors] == ([True] if declared else [])
    assert (problem in (file["error"] or "")) == declared
