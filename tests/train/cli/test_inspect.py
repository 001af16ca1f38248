"""`train inspect` summarises a data set and lists what cannot be used."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from monitor.arrays import F32
from monitor.errors import SourceError
from tests.signals import hum
from train.cli import inspect
from train.cli.main import main as train
from train.datasets import LAYOUTS, Split, read_dataset, save_split, split_dataset
from train.datasets.survey import survey


def write(path: Path, samples: F32, *, rate_hz: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    for i in range(4):
        write(tmp_path / f"set/normal/{i}.wav", hum(i, 192_000))
    write(tmp_path / "set/anomaly/x.flac", hum(9, 16_000))
    return tmp_path / "set"


def run(*words: object) -> None:
    parser = argparse.ArgumentParser()
    inspect.add(parser.add_subparsers())
    arguments = parser.parse_args(["inspect", *map(str, words)])
    arguments.run(arguments)


def look(*words: object) -> None:
    """The same, whatever it says of training."""
    with suppress(SourceError):
        run(*words)


def fact(out: str, name: str) -> str:
    """The lines of one fact."""
    lines = out.splitlines()
    if any(line.startswith("checked ") and name in line for line in lines):
        return "none"
    first = next(i for i, line in enumerate(lines) if line.startswith(f"{name} "))
    rest = lines[first + 1 :]
    more = next((i for i, line in enumerate(rest) if not line.startswith(" ")), len(rest))
    return "\n".join(line[12:] for line in [lines[first], *rest[:more]])


def test_a_good_data_set_is_told_in_a_table(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(good)
    out = capsys.readouterr().out
    assert out.splitlines()[:5] == [
        f"{good}: layout plain",
        "",
        "machine  normal  length  anomaly  length",
        "              4    48 s        1     1 s",
        "total         4    48 s        1     1 s",
    ]
    assert fact(out, "rates") == "16000 Hz (5 files)"
    assert fact(out, "channels") == "1 in a file (5 files)"
    assert fact(out, "enough") == (
        "no: 3 recordings, 36 s to learn from; 1 more to test with; record at least 12 recordings, or two minutes in one file"
    )
    assert fact(out, "length") == "min 1.0, median 12.0, max 12.0 s"
    assert all(fact(out, name) == "none" for name in ("clipped", "silent", "duplicate", "unreadable", "misplaced"))


def test_machines_and_parts_have_a_row_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, name in enumerate(("train/normal_id_01", "train/normal_id_02", "test/normal_id_01", "test/anomaly_id_01")):
        write(tmp_path / f"ToyCar/{name}_00000000.wav", hum(i, 16_000 * 36))
    run(tmp_path)
    assert capsys.readouterr().out.splitlines()[2:7] == [
        "machine  id     part   normal   length  anomaly  length",
        "ToyCar   id_01  test        1     36 s        1    36 s",
        "ToyCar   id_01  train       1     36 s        0       -",
        "ToyCar   id_02  train       1     36 s        0       -",
        "total                       3  1.8 min        1    36 s",
    ]


def test_levels_are_rms_against_full_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for db in (-40, -20, -6):
        square = np.where(np.arange(32_000) % 40 < 20, 1.0, -1.0) * 10.0 ** (db / 20)
        write(tmp_path / f"normal/{-db}.wav", square.astype(np.float32))
    look(tmp_path)
    assert fact(capsys.readouterr().out, "level") == "min -40.0, median -20.0, max -6.0 dBFS (RMS)"


def clipped(folder: Path) -> None:
    write(folder / "normal/loud.wav", np.clip(40 * hum(5, 24_000), -1, 1))


def silent(folder: Path) -> None:
    write(folder / "normal/off.wav", np.zeros(16_000, np.float32))


def duplicate(folder: Path) -> None:
    samples, _ = soundfile.read(folder / "normal/2.wav", dtype="float32")
    write(folder / "normal/again.flac", samples)


def mixed(folder: Path) -> None:
    write(folder / "normal/fast.wav", hum(5, 48_000), rate_hz=48_000)


@pytest.mark.parametrize(
    ("make", "name", "told"),
    [
        (clipped, "clipped", "normal/loud.wav (2 s)"),
        (silent, "silent", "normal/off.wav"),
        (duplicate, "duplicate", "normal/2.wav = normal/again.flac"),
        (mixed, "rates", "16000 Hz (5 files), 48000 Hz (1 file); mixed, all are resampled to the recipe's rate"),
    ],
)
def test_what_should_be_looked_at_is_named(
    make: Callable[[Path], None], name: str, told: str, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(good)
    look(good)
    assert fact(capsys.readouterr().out, name) == told


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        ([np.zeros(16_000 * 30, np.float32)], "0.wav: is silent, so it cannot be trained on"),
        ([np.clip(1e6 * hum(0, 16_000 * 30), -1, 1)], "0.wav: is clipped in 100% of its length (at most 10% allowed)"),
        ([hum(0, 16_000 * 3)], "1 recording to train on must give at least 3 segments of 10.2 s (a shorter recording counts"),
        ([hum(0, 16_000 * 20)], "1 recording to train on must give at least 3 segments of 10.2 s"),
        (
            [np.concatenate((hum(0, 16_000 * 29), np.zeros(16_000 * 13, np.float32)))],
            "1 recording to train on must give at least 3 segments of 10.2 s (a shorter recording counts as one), got 2",
        ),
        ([hum(i, 16_000 * 4) for i in range(2)], "2 recordings to train on must give at least 3 segments of 10.2 s"),
        ([hum(i, 2_000) for i in range(4)], "0.wav: must hold at least 0.19 s of sound to train on, got 0.12 s"),
        ([*(hum(i, 16_000 * 12) for i in range(9)), *2 * [np.zeros(160_000)]], ".wav: is silent, so it cannot be trained on"),
    ],
)
def test_what_fit_refuses_cannot_be_trained_on(
    signals: list[F32], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, samples in enumerate(signals):
        write(tmp_path / f"set/normal/{i}.wav", samples)
    assert train(["inspect", str(tmp_path / "set")]) == 1
    told = capsys.readouterr()
    assert message in told.err
    assert "cannot be trained on as it is: " in told.err
    assert "next:" not in told.out
    assert train(["fit", str(tmp_path / "set"), "--recipe", "default", "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err


def test_what_is_only_tested_with_may_be_silent(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(good / "anomaly/off.wav", np.zeros(16_000, np.float32))
    run(good)
    assert fact(capsys.readouterr().out, "silent") == "anomaly/off.wav"


@pytest.mark.parametrize(("n", "seconds"), [(3, 0.5), (4, 4.0), (1, 33.0)])
def test_what_inspect_accepts_however_short_is_trained_on(n: int, seconds: float, tmp_path: Path) -> None:
    for i in range(n):
        write(tmp_path / f"set/normal/{i}.wav", hum(i, round(16_000 * seconds)))
    assert train(["inspect", str(tmp_path / "set")]) == 0
    assert train(["fit", str(tmp_path / "set"), "--recipe", "default", "--out", str(tmp_path / "out")]) == 0


def test_of_a_split_what_is_listed_must_be_long_enough(good: Path, tmp_path: Path) -> None:
    """By the recipe default all of it is trained on, what the lists hold out, too."""
    data = read_dataset(good)
    normal = data.labelled("normal")
    save_split(Split(train=normal[:1], held_out=normal[1:2], test=normal[2:]), tmp_path / "lists", data.root)
    with pytest.raises(SourceError, match=r"with the recipe default, 2 recordings to train on must give at least 3 segments"):
        run(good, "--split", tmp_path / "lists")
    save_split(Split(train=normal[:1], held_out=normal[1:3], test=normal[3:]), tmp_path / "longer", data.root)
    run(good, "--split", tmp_path / "longer")


def test_links_that_lead_nowhere_are_skipped_and_told(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (good / "normal/annexed.wav").symlink_to("../.git/annex/objects/x")
    run(good)
    assert fact(capsys.readouterr().out, "skipped") == "normal/annexed.wav (broken link)"


def test_files_that_cannot_be_read_fail_and_are_named(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (good / "normal/text.wav").write_text("no sound")
    whole = (good / "normal/0.wav").read_bytes()
    (good / "normal/0.wav").write_bytes(whole[:20_000])
    with pytest.raises(
        SourceError, match=r"2 of 4 recordings cannot be used \(more than a tenth\): .*0.wav: is truncated .*\(and 1 more"
    ) as error:
        run(good)
    assert error.value.exit_status == 1
    lines = fact(capsys.readouterr().out, "unreadable").splitlines()
    assert len(lines) == 2
    assert "0.wav: is truncated after 0.6" in lines[0]
    assert "text.wav: is not a supported audio file" in lines[1]


def test_anomalies_in_the_training_part_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("normal_id_00_00000000", "anomaly_id_00_00000000"):
        write(tmp_path / f"fan/train/{name}.wav", hum(len(name), 16_000))
    with pytest.raises(SourceError, match=r"there are anomalies in the training part \(1 file\)"):
        run(tmp_path)
    assert fact(capsys.readouterr().out, "misplaced").startswith("fan/train/anomaly_id_00_00000000.wav (anomaly in")


def test_nothing_normal_fails(tmp_path: Path) -> None:
    write(tmp_path / "anomaly/x.wav", hum(0, 16_000))
    with pytest.raises(SourceError, match="there is no normal sound to train on"):
        run(tmp_path)


def test_a_long_list_is_cut_short(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(13):
        write(good / f"normal/off-{i}.wav", np.zeros(8_000 + i, np.float32))
    look(good)
    lines = fact(capsys.readouterr().out, "silent").splitlines()
    assert len(lines) == 11
    assert lines[-1] == "and 3 more"


def test_one_channel_may_be_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "normal/a.wav", np.stack([hum(0, 16_000), np.zeros(16_000)], axis=1).astype(np.float32))
    look(tmp_path, "--channel", 2)
    assert fact(capsys.readouterr().out, "silent") == "normal/a.wav"
    look(tmp_path, "--channel", 1)
    assert fact(capsys.readouterr().out, "silent") == "none"


def test_the_layout_may_be_given_and_help_lists_them(tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(good, "--layout", "plain")
    with pytest.raises(SourceError, match="none of its 5 sound files has a known label"):
        run(good, "--layout", "mimii")
    with pytest.raises(SystemExit):
        run("--help")
    help_text = capsys.readouterr().out
    assert all(name in help_text for name in LAYOUTS)


def test_several_processes_hear_the_same(good: Path) -> None:
    clips = read_dataset(good).clips
    assert survey(clips, workers=2) == survey(clips, workers=1)


def test_what_training_leaves_out_is_told_in_seconds(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = hum(3, 64_000)
    sound[16_000:32_000] = 0.0
    sound[48_000:] = 0.25
    write(good / "normal/pauses.wav", sound)
    run(good)
    out = capsys.readouterr().out
    assert fact(out, "left out") == "1 s flat line, 1 s silent (left out of training, because the device would not score them)"
    assert fact(out, "silent") == "none"  # not all of it


def test_a_recipe_that_does_not_fit_the_rate_is_refused_and_one_that_does_is_named(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(good)
    assert fact(capsys.readouterr().out, "recipes") == "for 16000 Hz: conv, dcase, default, idnn, mimii-mel, wide"
    with pytest.raises(SourceError, match=r"recipe toyadmos-fft, 3 of 3 .*: use --recipe default$"):
        run(good, "--recipe", "toyadmos-fft")
    for i in range(4):
        write(tmp_path / f"telephone/normal/{i}.wav", hum(i, 96_000), rate_hz=8_000)
    message = "4 of 4 recordings (8000 Hz) contain nothing above 4 kHz, where 28 of the model's 128 bands lie: use --recipe wide"
    assert train(["inspect", str(tmp_path / "telephone")]) == 1
    assert message in capsys.readouterr().err
    assert train(["fit", str(tmp_path / "telephone"), "--recipe", "default", "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    run(tmp_path / "telephone", "--recipe", "wide")


def test_sound_that_was_resampled_upwards_is_noticed_by_its_spectrum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(4):
        narrow = 0.1 * np.random.default_rng(i).standard_normal(8_000 * 12)
        write(tmp_path / f"normal/{i}.wav", np.asarray(soxr.resample(narrow, 8_000, 16_000), np.float32))
    run(tmp_path)
    out, err = capsys.readouterr()
    (line,) = (line for line in err.splitlines() if "warning" in line)
    assert "4 of 4 recordings contain nothing above 4.0 kHz although their rate is 16000 Hz" in line
    assert "normal/0.wav (nothing above 4.0 kHz)" in fact(out, "resampled")


def ten(folder: Path) -> Path:
    for i in range(10):
        write(folder / f"normal/{i}.wav", hum(i, 64_000))
    return folder


def test_a_tenth_of_bad_recordings_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ten(tmp_path / "set")
    whole = (data / "normal/4.wav").read_bytes()
    (data / "normal/4.wav").write_bytes(whole[:1000])
    assert train(["inspect", str(data)]) == 0
    assert "4.wav" in (left_out := capsys.readouterr().err)
    assert left_out.startswith("train: warning: left out: ")
    write(data / "normal/5.wav", np.zeros(64_000, np.float32))
    assert train(["inspect", str(data)]) == 1
    assert "2 of 10 recordings cannot be used (more than a tenth): " in capsys.readouterr().err


def test_recordings_longer_than_a_tenth_of_the_sound_are_not_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(ten(tmp_path) / "normal/long.wav", np.zeros(16_000 * 30, np.float32))
    assert train(["inspect", str(tmp_path)]) == 1
    assert "1 of 11 recordings cannot be used (more than a tenth): " in capsys.readouterr().err


def test_sound_without_samples_is_one_line(tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An MP3 file of one empty frame after the one with the tag that counts them."""
    data = tmp_path / "set"
    (data / "normal").mkdir(parents=True)
    tag = bytes(21) + b"Xing" + b"".join(n.to_bytes(4, "big") for n in (15, 2, 576)) + bytes(range(100))
    frames = [bytes([0xFF, 0xF3, 0x84, 0x40]) + content[4:].ljust(188, b"\0") for content in (tag, b"", b"")]
    (data / "normal/empty.mp3").write_bytes(b"".join(frames))
    for command in (
        ["inspect", str(data)],
        ["fit", str(data), "--recipe", "default", "--out", str(tmp_path / "out")],
        ["calibrate", str(demo_bundle), "--on", str(data), "--out", str(tmp_path / "out")],
        ["evaluate", str(demo_bundle), str(data), "--out", str(tmp_path / "report")],
    ):
        assert train(command) == 1, command
        errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(errors) == 1
        assert "empty.mp3: " in errors[0]


def test_faults_of_channels_and_levels_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound, other = hum(1, 64_000), hum(2, 64_000)
    ten(tmp_path)
    for name, channels in {"inverted": (sound, -sound), "dead": (sound, 0 * sound), "good": (sound, sound + other)}.items():
        write(tmp_path / f"normal/{name}.wav", np.stack(channels, axis=1))
    soundfile.write(tmp_path / "normal/over.wav", 40 * sound[:16_000], 16_000, subtype="FLOAT")
    write(tmp_path / "normal/short.wav", sound[:1_600])
    look(tmp_path)
    out = capsys.readouterr().out
    assert fact(out, "inverted") == "normal/inverted.wav (channels 1 and 2 cancel each other: use --channel)"
    assert fact(out, "dead") == "normal/dead.wav (channel 2)"
    assert fact(out, "too short") == "normal/short.wav (0.10 s)"
    assert fact(out, "over scale").startswith("normal/over.wav (peak ")


def test_lists_of_a_split_are_counted(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = read_dataset(good)
    save_split(split_dataset(data, held_out=0.2, seed=0), tmp_path / "lists", data.root)
    run(good, "--split", tmp_path / "lists")
    assert fact(capsys.readouterr().out, "split") == "2 train, 1 held out, 2 test"
