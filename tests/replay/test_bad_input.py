"""Bad input gives a one-line error, the right exit status, and no traceback."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import soundfile

from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.cli.main import main
from tests.replay.command import ROOT, monitor
from tests.signals import noise


def spoil(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.wav"
    sound = noise(1, 5 * 16000)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("This is not a recording.\n" * 100)
    elif kind == "random":
        path.write_bytes(np.random.default_rng(1).bytes(50_000))
    elif kind == "zero_frames":
        soundfile.write(path, np.zeros(0, np.float32), 16000)
    elif kind == "nan":
        sound[40_000] = np.nan
        soundfile.write(path, sound, 16000, subtype="FLOAT")
    elif kind == "infinite":
        sound[40_000] = np.inf
        soundfile.write(path, sound, 16000, subtype="FLOAT")
    elif kind == "cut_wav":
        soundfile.write(path, sound, 16000)
        path.write_bytes(path.read_bytes()[:80_000])
    elif kind == "cut_float_wav":
        soundfile.write(path, sound, 16000, subtype="FLOAT")
        path.write_bytes(path.read_bytes()[:80_000])
    elif kind == "cut_flac":
        path = path.with_suffix(".flac")
        soundfile.write(path, sound, 16000)
        path.write_bytes(path.read_bytes()[:80_000])
    elif kind == "cut_aiff":
        path = path.with_suffix(".aiff")
        soundfile.write(path, sound, 16000)
        path.write_bytes(path.read_bytes()[:80_000])
    elif kind == "loud":
        sound[40_000] = 1e30
        soundfile.write(path, sound, 16000, subtype="FLOAT")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "raw":
        path = path.with_suffix(".raw")
        path.write_bytes(bytes(1000))
    elif kind == "huge":
        soundfile.write(path, sound, 16000)
        content = bytearray(path.read_bytes())
        content[24:28] = (400_000_000).to_bytes(4, "little")
        path.write_bytes(content)
    elif kind == "folder":
        path.mkdir()
    else:
        assert kind == "missing"
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "missing.wav: cannot be read: No such file or directory"),
        ("empty", "empty.wav: is empty (0 bytes)"),
        ("text", "text.wav: is not a supported audio file: Format not recognised"),
        ("random", "random.wav: is not a supported audio file"),
        ("zero_frames", "zero_frames.wav: holds no samples"),
        ("nan", "nan.wav: sample 40000 (2.500 s) must be finite and at most 10000, got nan"),
        ("infinite", "infinite.wav: sample 40000 (2.500 s) must be finite and at most 10000, got inf"),
        ("cut_wav", "cut_wav.wav: is truncated after 2.499 s (39978 samples)"),
        ("cut_float_wav", "cut_float_wav.wav: is truncated after 1.249 s"),
        ("cut_flac", "cut_flac.flac: is truncated after "),
        ("cut_aiff", "cut_aiff.aiff: is truncated after "),
        ("loud", "loud.wav: sample 40000 (2.500 s) must be finite and at most 10000, got 1e+30"),
        ("fifo", "fifo.wav: must be a regular file, got a pipe or device"),
        ("raw", "raw.raw: is not a supported audio file"),
        ("huge", "huge.wav: the sample rate must be in 1000..1000000 Hz, got 400000000"),
        ("folder", "folder.wav: cannot be read: Is a directory"),
    ],
)
def test_a_bad_file_is_named_and_the_others_go_on(
    kind: str, message: str, tmp_path: Path, demo_normal: Path, demo_bundle: Path
) -> None:
    bad = spoil(kind, tmp_path)
    ran = monitor("--replay", bad, demo_normal, "--model", demo_bundle)
    assert ran.status == 1
    assert len(ran.errors) == 1
    assert message in ran.errors[0]
    first, second = ran.files
    assert message in first["error"]
    assert first["verdict"] == "unknown"
    assert second["verdict"] == "normal"
    assert second["error"] is None


@pytest.mark.parametrize("stage", ["hashing", "reading"])
def test_a_disk_error_in_one_file_does_not_stop_the_others(
    stage: str,
    demo_normal: Path,
    demo_fault: Path,
    demo_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def hash_file(path: Path) -> str:
        return fail() if stage == "hashing" and path == demo_fault else "0" * 64

    def read(recording: Recording, **times: float) -> Iterator[Block]:
        for block in blocks(recording, **times):
            yield block
            if stage == "reading" and recording.path == demo_fault:
                fail()

    blocks = Recording.blocks
    monkeypatch.setattr("monitor.audio.recording.file_sha256", hash_file)
    monkeypatch.setattr(Recording, "blocks", read)
    status = main(["--replay", str(demo_fault), str(demo_normal), "--model", str(demo_bundle)])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert status == 1
    assert first["error"] == f"{demo_fault}: cannot be read: Input/output error"
    assert (second["error"], second["verdict"]) == (None, "normal")


def test_events_before_a_file_was_cut_off_are_not_lost(tmp_path: Path, demo_fault: Path, demo_bundle: Path) -> None:
    cut = tmp_path / "cut.wav"
    soundfile.write(cut, soundfile.read(demo_fault)[0], 16000)
    cut.write_bytes(cut.read_bytes()[: 70 * 32_000])
    ran = monitor("--replay", cut, "--model", demo_bundle)
    assert ran.status == 1
    assert [(event["event_type"], event["end_reason"]) for event in ran.events] == [("start", None), ("end", "shutdown")]
    assert ran.files[0]["duration_s"] == pytest.approx(70, abs=0.01)


@pytest.mark.parametrize("promised", [0, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_that_promises_no_length_is_whole(tmp_path: Path, promised: int, demo_bundle: Path) -> None:
    path = tmp_path / "pipe.wav"
    soundfile.write(path, noise(1, 5 * 16000), 16000)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = promised.to_bytes(4, "little")
    content[4:8] = promised.to_bytes(4, "little")
    path.write_bytes(content)
    ran = monitor("--replay", path, "--model", demo_bundle)
    if promised:
        assert (ran.status, ran.files[0]["duration_s"]) == (0, 5.0)
    else:
        assert ran.files[0]["error"] is None or "holds no samples" in ran.files[0]["error"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 78, "no machine is configured; run: sudo monitor setup"),
        (["--replay"], 2, "expected at least one argument"),
        (["--replay", "x.wav"], 2, "--machine must be configured (--config FILE), or --model DIR given, got none"),
        (["--replay", "x.wav", "--model", "m", "--speed", "2"], 2, "argument --speed must be one of 'max', '1', got '2'"),
        (
            ["--replay", "x.wav", "--model", "m", "--started-at", "noon"],
            2,
            "must be a time such as 2026-11-21T10:00:00Z, got 'noon'",
        ),
        (["--replay", "x.wav", "--model", "m", "--started-at", "9999-12-31T23:59:59Z"], 2, "must lie in the years 1970 to 9000"),
        (
            ["--replay", "x.wav", "--model", "m", "--started-at", "9000-12-31T23:59:59-00:01"],
            2,
            "must lie in the years 1970 to 9000",
        ),
        (
            ["--replay", "x.wav", "--model", "m", "--started-at", "1970-01-01T00:00:00+00:01"],
            2,
            "must lie in the years 1970 to 9000",
        ),
        (["record", "--microphone", "foo:bar", "--out", "x"], 2, "argument --microphone: must be default, name:TEXT, usb:"),
        (["devices", "--level", "foo:bar"], 2, "argument --level: must be default, name:TEXT, usb:"),
        (["--scores"], 2, "--scores needs --replay FILE"),
        (["--speed", "max"], 2, "--speed needs --replay FILE"),
        (["--fail-on-anomaly", "--config", "nowhere.yaml"], 2, "--fail-on-anomaly needs --replay FILE"),
        (["--replay", "x.wav", "--model", "m", "--machine", "Fan 1"], 2, "must consist of a-z, 0-9, _ and -, got 'Fan 1'"),
        (["--replay", "x.wav", "--model", "m", "--channel", "0"], 2, "argument --channel: must be 1 or more, got '0'"),
        (["--replay", "x.wav", "--model", "nowhere"], 78, "nowhere/manifest.json: cannot be read: No such file or directory"),
        (
            ["--replay", "x.wav", "--model", "models/base"],
            78,
            "is a base bundle, which judges nothing: learn a machine with it first",
        ),
        (["--replay", "x.wav", "--config", "nowhere.yaml"], 78, "nowhere.yaml: cannot be read: No such file or directory"),
        (["--replay", "x.wav", "--model", "models/demo-fan"], 1, "x.wav: cannot be read: No such file or directory"),
        (
            ["--replay", "demo/fan-normal.flac", "--model", "models/demo-fan", "--channel", "2"],
            1,
            "channel must be in 1..1, got 2",
        ),
    ],
)
def test_bad_usage_is_one_line_and_the_right_status(arguments: list[str], status: int, message: str) -> None:
    ran = monitor(*arguments)
    assert ran.status == status
    assert message in ran.stderr.splitlines()[-1] or any(message in error for error in ran.errors)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("node: Hall 2", "monitor.yaml: node must consist of a-z, 0-9, _ and -, at most 64, got 'Hall 2'"),
        ("mqtt: {port: 70000}", "monitor.yaml: mqtt.port must be in 1..65535, got 70000"),
        ("machines: {fan: {}}", "monitor.yaml: machines.fan.bundle must be set"),
        ("- a", "must be a mapping of keys, got a list"),
        ("~: a", "monitor.yaml: every key must be text, got None"),
        (
            'machines: {fan: {bundle: b, name: "a\\nb"}}',
            "monitor.yaml: machines.fan.name must be one line of text, at most 200 characters, got 'a\\nb'",
        ),
        ("state_dir: ~nobody-here/x", "monitor.yaml: state_dir must begin with the home of an existing user"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_bad_configuration_names_its_key(yaml: str, message: str, tmp_path: Path) -> None:
    config = tmp_path / "monitor.yaml"
    config.write_text(yaml)
    ran = monitor("--replay", "demo/fan-normal.flac", "--config", config)
    assert ran.status == 78
    assert len(ran.errors) == 1
    assert message in ran.errors[0]


def test_a_refused_bundle_exits_with_78(tmp_path: Path, demo_bundle: Path, demo_normal: Path) -> None:
    import shutil

    shutil.copytree(demo_bundle, tmp_path / "demo-fan")
    (tmp_path / "demo-fan" / "model.tflite").write_bytes(b"broken")
    ran = monitor("--replay", demo_normal, "--model", tmp_path / "demo-fan")
    assert ran.status == 78
    assert ran.stdout == ""
    assert len(ran.errors) == 1
    assert "model.tflite must have sha256" in ran.errors[0]


def test_a_full_disk_behind_stdout_is_one_line(demo_normal: Path, demo_bundle: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "monitor.cli.main", "--replay", str(demo_normal), "--model", str(demo_bundle)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "monitor: error: output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_reader_that_leaves_is_no_failure(demo_fault: Path, demo_bundle: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "monitor.cli.main", "--replay", str(demo_fault), "--model", str(demo_bundle), "--scores"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    os.close(write)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_is_nobody_who_listens(closed: int, demo_fault: Path, demo_bundle: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "monitor.cli.main",
        "--replay",
        str(demo_fault),
        "--model",
        str(demo_bundle),
        "--fail-on-anomaly",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, preexec_fn=lambda: os.close(closed))
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert ("ALARM STARTED" in done.stderr, '"start"' in done.stdout) == (closed == 1, closed == 2)
