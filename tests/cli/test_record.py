"""`monitor record` writes complete, unbroken clips that `train` reads, with and without the service, whatever interrupts it."""

import argparse
import os
import shutil
import signal
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from monitor.cli.recording.session import RecordingSession, Take
from monitor.daemon.control.socket import NAME
from monitor.errors import SinkError, SourceError, UsageError
from tests.cli.tool import run, start
from tests.daemon.control.sharing import sharing
from tests.rig import VirtualMicrophone
from tests.waiting import wait_until
from train.cli import inspect
from train.datasets import read_dataset, split_dataset

RATE_HZ = 1000
TAKE = Take(name="fan", rate_hz=RATE_HZ, n_channels=2, sample_format="int24", comment={"microphone": "default"})


def ramp(seconds: float, *, start: int = 0, step: int = 256) -> NDArray[np.int32]:
    """Distinct frames (n, 2) with 24 significant bits."""
    n = np.arange(start, start + round(seconds * RATE_HZ), dtype=np.int32)
    return np.stack((n * step, -n * step), axis=1)


def clips(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.flac"))


def whole(folder: Path) -> NDArray[np.int32]:
    """All clips, one after another."""
    return np.concatenate([soundfile.read(clip, dtype="int32", always_2d=True)[0] for clip in clips(folder)])


def session(folder: Path, *, take: Take = TAKE, clip_s: float = 5.0, wanted_s: float = 20.0) -> RecordingSession:
    return RecordingSession(folder, take, clip_s=clip_s, wanted_s=wanted_s)


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_session_is_cut_into_clips_without_a_sample_lost(tmp_path: Path) -> None:
    with closing(session(tmp_path)) as one:
        for at in range(0, 25_000, 700):
            one.write(ramp(0.7, start=at))
        assert one.complete
        assert one.done_s == 20.0
    names = [clip.name for clip in clips(tmp_path)]
    assert names == [f"{one.stem}-{number:04d}.flac" for number in (1, 2, 3, 4)]
    assert [soundfile.info(clip).frames for clip in clips(tmp_path)] == [5_000] * 4
    assert np.array_equal(whole(tmp_path), ramp(20.0))  # exactly
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(("sample_format", "subtype", "step"), [("int16", "PCM_16", 1 << 16), ("int32", "PCM_24", 1 << 8)])
def test_flac_keeps_all_bits_of_the_device(tmp_path: Path, sample_format: str, subtype: str, step: int) -> None:
    take = Take(name="fan", rate_hz=RATE_HZ, n_channels=2, sample_format=sample_format, comment={})
    with closing(session(tmp_path, take=take, wanted_s=5.0)) as one:
        one.write(ramp(5.0, step=step))
    assert soundfile.info(clips(tmp_path)[0]).subtype == subtype
    assert np.array_equal(whole(tmp_path), ramp(5.0, step=step))


def test_a_gap_ends_the_clip(tmp_path: Path) -> None:
    with closing(session(tmp_path, wanted_s=10.0)) as one:
        one.write(ramp(3.0))
        one.end_clip()
        one.write(ramp(7.0, start=90_000))
    assert [soundfile.info(clip).frames for clip in clips(tmp_path)] == [3_000, 5_000, 2_000]
    assert np.array_equal(whole(tmp_path), np.concatenate((ramp(3.0), ramp(7.0, start=90_000))))


def test_a_clip_that_is_too_short_does_not_count(tmp_path: Path) -> None:
    with closing(session(tmp_path, wanted_s=5.0)) as one:
        one.write(ramp(1.9))
        one.end_clip()
        assert one.done_s == 0.0
        one.write(ramp(5.0))
    assert [soundfile.info(clip).frames for clip in clips(tmp_path)] == [5_000]


def test_the_last_clip_is_never_too_short(tmp_path: Path) -> None:
    with closing(session(tmp_path, wanted_s=5.5)) as one:
        one.write(ramp(9.0))
    assert [soundfile.info(clip).frames for clip in clips(tmp_path)] == [5_000, 2_000]


def test_an_interrupted_session_is_resumed(tmp_path: Path) -> None:
    with closing(session(tmp_path)) as first:
        first.write(ramp(8.0))
    assert hidden(tmp_path) == [".fan.session"]
    with closing(session(tmp_path)) as second:
        assert (second.stem, second.resumed_s) == (first.stem, 8.0)
        second.write(ramp(30.0))
    assert [clip.name[-9:-5] for clip in clips(tmp_path)] == ["0001", "0002", "0003", "0004", "0005"]
    assert second.done_s == 20.0
    assert hidden(tmp_path) == []


def test_a_session_resumed_the_next_day_is_another_recording(tmp_path: Path) -> None:
    """It has a name of its own, and the earlier clips still count."""
    with closing(session(tmp_path)) as first:
        first.write(ramp(8.0))
    for clip in clips(tmp_path):
        os.utime(clip, (0, clip.stat().st_mtime - 86_400))
    with closing(session(tmp_path)) as second:
        assert second.stem != first.stem
        assert second.resumed_s == 8.0
    with closing(session(tmp_path)) as third:
        assert third.resumed_s == 8.0
        third.write(ramp(30.0))
    numbers = [(clip.name[:-10], clip.name[-9:-5]) for clip in clips(tmp_path)]
    assert numbers == [(first.stem, "0001"), (first.stem, "0002"), *((third.stem, f"000{n}") for n in (1, 2, 3))]
    assert third.done_s == 20.0
    assert hidden(tmp_path) == []


def test_a_complete_session_is_continued_soon_after_and_counts_anew(tmp_path: Path) -> None:
    """Its numbers go on, so that both are one recording; another microphone, or another day, begins a new one."""
    with closing(session(tmp_path, wanted_s=10.0)) as first:
        first.write(ramp(20.0))
    with closing(session(tmp_path, wanted_s=10.0)) as second:
        assert (second.stem, second.resumed_s, second.earlier_s) == (first.stem, 0.0, 10.0)
        second.write(ramp(8.0))
    with closing(session(tmp_path, wanted_s=10.0)) as third:  # it was interrupted
        assert (third.stem, third.resumed_s, third.earlier_s) == (first.stem, 8.0, 10.0)
        third.write(ramp(20.0))
        assert third.done_s == 10.0
    assert [clip.name[-9:-5] for clip in clips(tmp_path)] == ["0001", "0002", "0003", "0004", "0005"]
    other = Take(name="fan", rate_hz=RATE_HZ, n_channels=2, sample_format="int24", comment={"microphone": "usb:0d8c:0014"})
    with closing(session(tmp_path, take=other)) as fourth:
        assert fourth.stem != first.stem
    for clip in clips(tmp_path):
        os.utime(clip, (0, clip.stat().st_mtime - 86_400))
    with closing(session(tmp_path)) as fifth:
        assert (fifth.stem != first.stem, fifth.earlier_s) == (True, 20.0)


def test_a_partial_clip_left_by_a_power_cut_is_removed(tmp_path: Path) -> None:
    with closing(session(tmp_path)) as first:
        first.write(ramp(8.0))
    (tmp_path / f".{first.stem}.part").write_bytes(b"fLaC")
    other = tmp_path / ".fan_2_20261121T100000Z.part"
    other.write_bytes(b"of a session that continues")
    with closing(session(tmp_path)):
        assert hidden(tmp_path) == [".fan.session", other.name]


def test_another_microphone_makes_another_session(tmp_path: Path) -> None:
    with closing(session(tmp_path)) as first:
        first.write(ramp(8.0))
    take = Take(name="fan", rate_hz=RATE_HZ, n_channels=2, sample_format="int16", comment={"microphone": "default"})
    with closing(session(tmp_path, take=take)) as second:
        assert second.resumed_s == 0.0
        assert second.stem != first.stem


def test_two_cannot_record_the_same_session(tmp_path: Path) -> None:
    with closing(session(tmp_path)), pytest.raises(SinkError, match="another monitor record is already writing to this session"):
        session(tmp_path)


def test_the_disk_is_checked_first(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"needs 6000000000000000 bytes .* and 100 MB to spare, got \d+ bytes"):
        session(tmp_path, wanted_s=1e12)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_whole_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = session(tmp_path)
    one.write(ramp(5.0))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000_000))
    with closing(one), pytest.raises(SinkError, match="needs 30000 bytes"):
        one.write(ramp(5.0))
    assert np.array_equal(whole(tmp_path), ramp(5.0))


def test_more_channels_than_flac_holds_are_refused() -> None:
    with pytest.raises(SinkError, match=r"FLAC holds at most 8 channels, got 16: choose one \(--channel N\)"):
        Take(name="fan", rate_hz=RATE_HZ, n_channels=16, sample_format="int16", comment={})


def test_a_damaged_clip_is_named(tmp_path: Path) -> None:
    with closing(session(tmp_path)) as first:
        first.write(ramp(8.0))
    clips(tmp_path)[0].write_bytes(b"fLaC")
    with pytest.raises(SinkError, match=r"-0001\.flac: is damaged .*; remove it to resume"):
        session(tmp_path)


# With a real microphone


def play(rig: VirtualMicrophone, folder: Path, *, level: float, seconds: float = 120.0) -> None:
    """A sine of 1 kHz; above level 1 it is clipped."""
    sine = level * np.sin(2 * np.pi * 1000 / 48_000 * np.arange(round(48_000 * seconds)))
    soundfile.write(folder / "sine.wav", np.clip(sine, -1, 1), 48_000, subtype="PCM_16")
    rig.play(folder / "sine.wav")


def inspected(dataset: Path) -> None:
    """Run `train inspect`. Two clips of a few seconds are too few to train on, three are enough."""
    parser = argparse.ArgumentParser()
    inspect.add(parser.add_subparsers())
    arguments = parser.parse_args(["inspect", str(dataset)])
    enough = len(list(dataset.rglob("*.flac"))) >= 3
    with nullcontext() if enough else pytest.raises(SourceError, match="must give at least 3 segments"):
        arguments.run(arguments)


def assert_unbroken_sine(clip: Path) -> None:
    """A spliced sine would jump: x[n] + x[n - 2] = 2 cos(w) x[n - 1] holds only for an unbroken one."""
    samples, rate_hz = soundfile.read(clip, always_2d=True)
    x = samples[:, 0]
    off = np.abs(x[2:] + x[:-2] - 2 * np.cos(2 * np.pi * 1000 / rate_hz) * x[1:-1])
    assert off.max() < 0.01 * np.abs(x).max(), f"{clip}: broken at sample {off.argmax()}"


def test_train_reads_what_is_recorded(rig: VirtualMicrophone, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play(rig, tmp_path, level=0.5)
    out = tmp_path / "data"
    assert run("record", "--microphone", "name:mic", "--out", out, "--minutes", 0.125, "--clip-seconds", 2.5) == 0
    assert "3 clips, 0.1 of 0.125 minutes; no problems" in capsys.readouterr().out
    dataset = read_dataset(out)
    assert dataset.layout == "plain"
    assert [clip.label for clip in dataset.clips] == ["normal"] * 3
    assert len({clip.recording for clip in dataset.clips}) == 1
    split = split_dataset(dataset, held_out=0.3, seed=0)
    assert [clip.path.name[-9:-5] for clip in split.held_out] == ["0003"]  # the last
    inspected(out)
    facts = capsys.readouterr().out
    assert "48000 Hz (3 files)" in facts
    assert "min 2.5, median 2.5, max 2.5 s" in facts
    for clip in clips(out / "normal"):
        assert_unbroken_sine(clip)
        assert abs(np.abs(soundfile.read(clip)[0]).max() - 0.5) < 0.01


def test_while_the_service_has_the_microphone_its_stream_is_used(
    rig: VirtualMicrophone, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    play(rig, tmp_path, level=0.5)
    out = tmp_path / "data"
    with sharing(tmp_path / "run" / NAME, "name:mic", rig.environment):
        assert run("record", "--microphone", "name:MIC", "--out", out, "--minutes", 0.1, "--clip-seconds", 3) == 0
    assert "shared by the service" in caplog.text
    assert [soundfile.info(clip).duration for clip in clips(out / "normal")] == [3.0, 3.0]
    for clip in clips(out / "normal"):
        assert_unbroken_sine(clip)
    inspected(out)


def test_a_service_that_is_killed_and_comes_back_leaves_a_gap_and_no_splice(rig: VirtualMicrophone, tmp_path: Path) -> None:
    play(rig, tmp_path, level=0.5)
    out, log, control = tmp_path / "data", tmp_path / "record.log", tmp_path / "run" / NAME
    words = ("--microphone", "name:mic", "--out", out, "--minutes", 0.13, "--clip-seconds", 60)
    with sharing(control, "name:mic", rig.environment) as first:
        recording = start("record", *words, environment=rig.environment, log=log)
        wait_until(lambda: part_bytes(out) > 100_000)
        first.kill()
        first.wait()
        wait_until(lambda: "the service has stopped" in log.read_text())
    with sharing(control, "name:mic", rig.environment):
        assert recording.wait(60) == 0, log.read_text()
    assert "sound resumed" in log.read_text()
    assert "1 gap" in log.read_text()
    assert len(clips(out / "normal")) == 2
    for clip in clips(out / "normal"):
        assert_unbroken_sine(clip)
    assert sum(soundfile.info(clip).duration for clip in clips(out / "normal")) == pytest.approx(7.8)


def test_a_microphone_that_freezes_leaves_a_gap_and_no_splice(rig: VirtualMicrophone, tmp_path: Path) -> None:
    play(rig, tmp_path, level=0.5)
    out, log = tmp_path / "data", tmp_path / "record.log"
    words = ("--microphone", "name:mic", "--out", out, "--minutes", 0.15, "--clip-seconds", 60)
    recording = start("record", *words, environment=rig.environment, log=log)
    wait_until(lambda: part_bytes(out) > 100_000)
    rig.freeze()
    wait_until(lambda: "no sound, waiting: frozen" in log.read_text())
    rig.thaw()
    assert recording.wait(60) == 0, log.read_text()
    assert "1 gap" in log.read_text()
    assert sum(soundfile.info(clip).duration for clip in clips(out / "normal")) == 9.0
    assert soundfile.info(clips(out / "normal")[0]).duration < 9.0


def part_bytes(out: Path) -> int:
    return sum(part.stat().st_size for part in out.glob("normal/.*.part"))


def test_ctrl_c_leaves_complete_files_and_the_same_command_resumes(rig: VirtualMicrophone, tmp_path: Path) -> None:
    play(rig, tmp_path, level=0.5)
    out, log = tmp_path / "data", tmp_path / "record.log"
    words = ("--microphone", "name:mic", "--out", out, "--minutes", 0.125, "--clip-seconds", 2.5)
    recording = start("record", *words, environment=rig.environment, log=log)
    wait_until(lambda: bool(clips(out / "normal")))
    recording.send_signal(signal.SIGINT)
    assert recording.wait(20) == 130
    assert "run the same command again to resume" in log.read_text()
    assert hidden(out / "normal") == [".name-mic.session"]
    before = sum(soundfile.info(clip).duration for clip in clips(out / "normal"))
    assert 2.5 <= before < 7.5
    assert start("record", *words, environment=rig.environment, log=log).wait(60) == 0
    assert f"resumed after {before / 60:.1f} of 0.125 minutes" in log.read_text()
    assert sum(soundfile.info(clip).duration for clip in clips(out / "normal")) == pytest.approx(7.5)
    assert len({clip.name[:-9] for clip in clips(out / "normal")}) == 1
    inspected(out)


def test_clipping_and_silence_are_logged(
    rig: VirtualMicrophone, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ("--microphone", "name:mic", "--minutes", 0.1, "--clip-seconds", 3)
    assert run("record", *words, "--out", tmp_path / "silent") == 0
    assert "warning: channel 1 is silent (muted, or the wrong channel?)" in caplog.messages
    play(rig, tmp_path, level=4.0)
    assert run("record", *words, "--out", tmp_path / "loud") == 0
    assert "warning: channel 1 is clipped (lower its gain)" in caplog.messages
    out = capsys.readouterr().out
    assert " s silent" in out
    assert " s clipped" in out


def test_the_machines_channel_is_recorded(rig: VirtualMicrophone, tmp_path: Path, demo_bundle: Path) -> None:
    play(rig, tmp_path, level=0.5)
    config = tmp_path / "monitor.yaml"
    machines = f"machines: {{fan: {{bundle: {demo_bundle}, microphone: 'name:mic', channel: 2, microphone_rate_hz: 16000}}}}"
    config.write_text(f"node: n\n{machines}\n")
    words = ("--config", config, "--minutes", 0.1, "--label", "anomaly")
    assert run("record", *words, "--machine", "fan", "--out", tmp_path / "data") == 0
    (clip,) = clips(tmp_path / "data" / "anomaly")
    info = soundfile.info(clip)
    assert (info.channels, info.samplerate, info.duration) == (1, 16_000, 6.0)
    assert clip.name.startswith("fan_2")
    with pytest.raises(UsageError, match="--machine must be one of fan, got press"):
        run("record", *words, "--machine", "press", "--out", tmp_path)


def test_a_missing_microphone_is_one_line(rig: VirtualMicrophone, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SourceError, match=r"^microphone name:none: absent: no such microphone; present: pulse") as raised:
        run("record", "--microphone", "name:none", "--out", tmp_path / "data", "--minutes", 1)
    assert "\n" not in str(raised.value)
    assert caplog.messages == []  # the error contains it
    assert not (tmp_path / "data").exists()
