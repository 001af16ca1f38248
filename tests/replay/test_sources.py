"""What is wrong with a source is told: stuck buffers, channels that cancel, wrong lengths, and why there is no score."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from monitor.arrays import F32
from monitor.audio.channel_reader import ChannelReader
from monitor.audio.gaps import UnbrokenSound
from monitor.audio.ring import SoundFormat
from monitor.bundle import load_bundle
from monitor.monitor import Monitor
from tests.audio.recordings.test_wrong_lengths import mp3_without_sound
from tests.replay.command import monitor
from tests.signals import noise

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def normal(demo_normal: Path) -> F32:
    samples: F32 = soundfile.read(demo_normal, dtype="float32")[0]
    return samples


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("period_s", [0.02133, 0.2, 0.5, 1.0])
def test_a_stuck_buffer_is_unknown(period_s: float, rate_hz: int, normal: F32, tmp_path: Path, demo_bundle: Path) -> None:
    sound = soxr.resample(normal, RATE_HZ, rate_hz)[3 * rate_hz :]
    soundfile.write(tmp_path / "stuck.wav", np.resize(sound[: round(period_s * rate_hz)], 20 * rate_hz), rate_hz)
    ran = monitor("--replay", tmp_path / "stuck.wav", "--model", demo_bundle, "--scores")
    (file,) = ran.files
    assert (ran.status, file["verdict"], file["reason"], file["score"]) == (0, "unknown", "repeating", None)
    assert {line["state"] for line in ran.segments[5:]} == {"unknown"}
    assert {line["reason"] for line in ran.segments[5:]} == {"repeating"}
    assert "unknown (no score: the sound repeats itself exactly, so its source is stuck, 0 events)" in ran.stderr


@pytest.mark.parametrize("period_s", [0.2, 0.5, 1.0])
def test_a_stuck_microphone_is_unknown(period_s: float, normal: F32, demo_bundle: Path) -> None:
    """Live, at the device's rate, in PortAudio's periods of 100 ms; and normal again once it delivers sound."""
    rate_hz = 48_000
    sound = soxr.resample(normal, RATE_HZ, rate_hz)
    loop = np.resize(sound[3 * rate_hz :][: round(period_s * rate_hz)], 30 * rate_hz)
    device = np.concatenate((sound[: 15 * rate_hz], loop, sound)).astype(np.float32)
    fan, reader = Monitor(load_bundle(demo_bundle)), ChannelReader(channel=None, sample_rate_hz=RATE_HZ)
    reader.open(SoundFormat(rate_hz, 1, "float32"))
    states = []
    for at in range(0, len(device), rate_hz // 10):
        chunk = device[at : at + rate_hz // 10]
        reader.push(UnbrokenSound(at, len(chunk), chunk.tobytes(), 0.0, at / rate_hz, at == 0))
        states += [(result.state, result.reason) for block in reader.blocks() for result in fan.push(block)]
    assert states[13][1] != "repeating"
    assert states[15 + 12 : 44] == [("unknown", "repeating")] * 17
    assert states[-1][1] != "repeating"


def test_why_there_is_no_score_is_told(tmp_path: Path, demo_bundle: Path) -> None:
    loud = noise(1, 3 * RATE_HZ, level=0.2)
    soundfile.write(tmp_path / "click.wav", loud[:800], RATE_HZ)
    soundfile.write(tmp_path / "cancel.wav", np.stack((loud, -loud), axis=1), RATE_HZ)
    soundfile.write(tmp_path / "over.wav", 20 * loud, RATE_HZ, subtype="FLOAT")
    soundfile.write(tmp_path / "clipped.wav", 20 * loud, RATE_HZ)
    names = ("click", "cancel", "over", "clipped")
    ran = monitor("--replay", *(tmp_path / f"{name}.wav" for name in names), "--model", demo_bundle)
    assert [(file["verdict"], file["reason"]) for file in ran.files] == [
        ("unknown", "short"),
        ("unknown", "silent"),
        ("unknown", "clipped"),
        ("unknown", "clipped"),
    ]
    assert "click.wav: unknown (no score: too short, 0 events)" in ran.stderr
    assert "cancel.wav: channels 1 and 2 are inverted against each other and cancel; use --channel" in ran.stderr
    assert "over.wav: unknown (no score: over full scale, the peak is 1" in ran.stderr
    assert "clipped.wav: unknown (no score: clipped, 0 events)" in ran.stderr


def test_a_channel_that_was_chosen_gives_no_advice(tmp_path: Path, demo_bundle: Path) -> None:
    loud = noise(1, 3 * RATE_HZ, level=0.2)
    soundfile.write(tmp_path / "cancel.wav", np.stack((loud, -loud), axis=1), RATE_HZ)
    ran = monitor("--replay", tmp_path / "cancel.wav", "--channel", "2", "--model", demo_bundle)
    assert ran.files[0]["score"] is not None
    assert "inverted" not in ran.stderr


def test_a_wrong_length_is_one_warning(normal: F32, tmp_path: Path, demo_normal: Path, demo_bundle: Path) -> None:
    path = tmp_path / "killed.wav"
    soundfile.write(path, normal, RATE_HZ)
    content = bytearray(path.read_bytes())
    content[40:44] = bytes(4)
    path.write_bytes(content)
    ran = monitor("--replay", path, demo_normal, "--model", demo_bundle)
    assert ran.status == 0
    assert ran.files[0]["score"] == ran.files[1]["score"]
    assert [line for line in ran.stderr.splitlines() if "header" in line] == [
        f"{path}: the header states 0 bytes of sound, 640000 fewer than the file holds; reading all 640000"
    ]


def test_an_mp3_that_decodes_to_nothing_fails(tmp_path: Path, demo_bundle: Path) -> None:
    (tmp_path / "nothing.mp3").write_bytes(mp3_without_sound())
    ran = monitor("--replay", tmp_path / "nothing.mp3", "--model", demo_bundle)
    assert (ran.status, ran.files[0]["error"]) == (1, f"{tmp_path}/nothing.mp3: holds no samples")
    assert ran.stderr == f"monitor: error: {tmp_path}/nothing.mp3: holds no samples\n"


def test_the_decoder_prints_nothing(normal: F32, tmp_path: Path, demo_bundle: Path) -> None:
    """libmpg123 comments on damage, on the C level, which is neither a log line nor of use."""
    soundfile.write(tmp_path / "a.mp3", normal, RATE_HZ)
    content = (tmp_path / "a.mp3").read_bytes()
    for at in (0, 200, 900, 5000):
        (tmp_path / f"{at}.mp3").write_bytes(content[:at] + np.random.default_rng(at).bytes(900) + content[at:])
    ran = monitor("--replay", *sorted(tmp_path.glob("*.mp3")), "--model", demo_bundle)
    assert all(str(tmp_path) in line or "  demo-fan  " in line for line in ran.stderr.splitlines())
    assert all(json.loads(line) for line in ran.stdout.splitlines())
