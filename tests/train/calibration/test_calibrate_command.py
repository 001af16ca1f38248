"""`train calibrate`: new thresholds for a bundle, the model untouched."""

import argparse
import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from monitor.bundle import load_bundle
from monitor.bundle.load import make_scorer
from monitor.bundle.manifest import read_manifest
from monitor.errors import SourceError, UsageError
from tests.replay.command import monitor
from train.calibration.normal_scores import expected_of, measure_pieces, score_pieces
from train.cli.calibrate import add
from train.cli.main import main as train
from train.datasets import Split, pieces, read_dataset, save_split


@pytest.fixture(scope="session")
def normal_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration-set")
    assert train(["synth", str(folder), "--recordings", "6", "--seconds", "40", "--seed", "0", "--take", "300"]) == 0
    return folder


def run(*arguments: object) -> None:
    """What `train calibrate …` does, errors raised."""
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    parsed = parser.parse_args(["calibrate", *map(str, arguments)])
    parsed.run(parsed)


def calibration(folder: Path) -> dict[str, Any]:
    """As it is written."""
    return dict(json.loads((folder / "manifest.json").read_text())["calibration"])


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_bundle_has_new_thresholds_and_the_same_model(
    demo_bundle: Path, normal_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, before = tmp_path / "fan-new", files(demo_bundle)
    run(demo_bundle, "--on", normal_set, "--out", out)
    assert files(demo_bundle) == before
    after = files(out)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"manifest.json", "statistics.npz"}
    old, new = read_manifest(demo_bundle), load_bundle(out).manifest
    assert (new.name, new.golden, new.provenance.recipe) == ("fan-new", old.golden, "mimii-mel")
    assert calibration(out)["method"] == "default"
    assert new.calibration.threshold != old.calibration.threshold
    assert new.rule.raise_k == old.rule.raise_k
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"calibrated: {out} on 6 recordings, 4 min of normal sound",
        "aims at about one false warning a day and one false alarm a month at most, as long as the machine sounds as it was "
        "recorded (not verified: too little sound)",
        f"next: monitor --replay FILE --model {out}",
    ]
    run(demo_bundle, "--on", normal_set, "--out", out, "--verbose")
    statement, levels, *_ = capsys.readouterr().out.splitlines()
    assert statement == calibration(out)["statement"]
    assert levels.startswith(f"threshold {new.calibration.threshold:.3g} (alarm from ")


def test_processes_side_by_side_measure_and_profile_to_the_bit(demo_bundle: Path, normal_set: Path) -> None:
    heard = pieces(read_dataset(normal_set).clips, sample_rate_hz=16000)
    bundle = load_bundle(demo_bundle)
    spec = bundle.manifest.scorer_spec
    make = partial(make_scorer, bundle.model, spec=spec, layout=bundle.manifest.model.layout, detector=bundle.detector())
    (alone, *others) = (
        [asdict(one) for one in measure_pieces(how, heard, workers=n)] for how, n in ((make, 1), (make, 2), (bundle.scorer, 2))
    )
    for other in others:
        np.testing.assert_equal(other, alone)
    np.testing.assert_equal(asdict(expected_of(heard, spec, workers=2)), asdict(expected_of(heard, spec, workers=1)))


def test_the_threshold_is_that_of_the_segments_of_the_given_sound(demo_bundle: Path, normal_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "by-percentile"
    run(demo_bundle, "--on", normal_set, "--percentile", 97, "--out", out)
    heard = pieces(read_dataset(normal_set).clips, sample_rate_hz=16000)
    scores = score_pieces(load_bundle(demo_bundle).scorer, heard).segment_scores
    found = calibration(out)
    assert found["method"] == "percentile"
    assert (found["n_segments"], found["n_recordings"]) == (len(scores), 6)
    assert found["threshold"] == np.percentile(scores, 97)


@pytest.mark.parametrize(
    "options",
    [
        ("--sigma", "3"),
        ("--method", "mean+k*sigma"),
        ("--false-alarm", "0.1"),
        ("--method", "gamma", "--false-alarm", "0.001"),
        ("--method", "pot", "--per-week", "7"),
    ],
)
def test_every_method_gives_a_bundle_that_monitor_takes(
    options: tuple[str, ...], demo_bundle: Path, demo_normal: Path, normal_set: Path, tmp_path: Path
) -> None:
    run(demo_bundle, "--on", normal_set, *options, "--out", tmp_path / "any")
    assert monitor("--replay", demo_normal, "--model", tmp_path / "any").files[0]["threshold"] > 0


def test_without_out_the_bundle_itself_is_replaced_and_a_fault_is_still_found(
    demo_bundle: Path, demo_fault: Path, normal_set: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    run(demo_bundle, "--on", normal_set, "--out", out)
    run(out, "--on", normal_set, "--sigma", 5)
    assert calibration(out)["method"] == "mean+k*sigma"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert monitor("--replay", demo_fault, "--model", out).files[0]["n_events"] >= 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("--method", "pot", "--sigma", "3"), UsageError, r"--sigma requires the method mean\+k\*sigma, got pot"),
        (("--sigma", "3", "--percentile", "99"), UsageError, r"--percentile requires the method percentile, got mean\+k"),
        (("--method", "gamma", "--per-week", "1"), UsageError, "--per-week requires the method pot, got gamma"),
        (("--layout", "zip"), UsageError, "--layout must be one of mimii, toyadmos, dcase2020, dcase2021, plain, got 'zip'"),
        (("--out", "Bad Name"), UsageError, "--out must end in a name of a-z, 0-9, _ and -, got 'Bad Name'"),
    ],
)
def test_impossible_options_are_one_line(
    options: tuple[str, ...], error: type[Exception], message: str, demo_bundle: Path, normal_set: Path
) -> None:
    with pytest.raises(error, match=message):
        run(demo_bundle, "--on", normal_set, *options)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--percentile", "100", "percentile must be above 0 and below 100, got 100"),
        ("--false-alarm", "2", "false_alarm must be at least 1e-09 and below 1, got 2"),
        ("--false-alarm", "1e-300", "false_alarm must be at least 1e-09 and below 1, got 1e-300"),
        ("--sigma", "1000", "k must be above 0 and at most 100, got 1000"),
        ("--per-week", "1e300", "events_per_week must be in 0.001..10000, got 1e+300"),
        ("--per-week", "1e-300", "events_per_week must be in 0.001..10000, got 1e-300"),
    ],
)
def test_a_number_out_of_range_is_a_matter_of_usage(
    option: str, value: str, message: str, demo_bundle: Path, normal_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(demo_bundle, "--on", normal_set, option, value)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: argument {option}: {message}")


@pytest.mark.parametrize("rarest", [("--false-alarm", "1e-9"), ("--per-week", "0.001")])
def test_the_rarest_false_alarm_and_event_are_told_in_a_readable_statement(
    rarest: tuple[str, str], demo_bundle: Path, normal_set: Path, tmp_path: Path
) -> None:
    run(demo_bundle, "--on", normal_set, *rarest, "--out", tmp_path / "rare")
    assert max(len(word) for word in calibration(tmp_path / "rare")["statement"].split()) < 16


def test_out_may_be_the_folder_that_one_is_in(
    demo_bundle: Path, normal_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shutil.copytree(demo_bundle, tmp_path / "fan-here")
    monkeypatch.chdir(here)
    run(demo_bundle, "--on", normal_set, "--sigma", 3, "--out", ".")
    assert read_manifest(here).name == "fan-here"


def test_anomalies_alone_set_no_threshold(demo_bundle: Path, normal_set: Path, tmp_path: Path) -> None:
    shutil.copytree(normal_set / "normal", tmp_path / "set/anomaly")
    with pytest.raises(SourceError, match="must hold normal sound to calibrate on, got none") as error:
        run(demo_bundle, "--on", tmp_path / "set", "--out", tmp_path / "new")
    assert error.value.exit_status == 1
    assert not (tmp_path / "new").exists()


def test_a_data_set_without_normal_sound_leaves_everything_as_it_was(demo_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="contains no sound files"):
        run(demo_bundle, "--on", tmp_path, "--out", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_of_listed_sound_only_what_was_held_out_counts(demo_bundle: Path, normal_set: Path, tmp_path: Path) -> None:
    data = read_dataset(normal_set)
    save_split(Split(train=data.clips[:4], held_out=data.clips[4:], test=()), tmp_path / "lists", data.root)
    out = tmp_path / "listed"
    run(demo_bundle, "--on", normal_set, "--split", tmp_path / "lists", "--sigma", 3, "--out", out)
    heard = pieces(data.clips[4:], sample_rate_hz=16000)
    scores = score_pieces(load_bundle(demo_bundle).scorer, heard).segment_scores
    assert (calibration(out)["n_recordings"], calibration(out)["n_segments"]) == (2, len(scores))


def test_of_the_data_set_it_was_trained_on_only_what_was_held_out_counts(
    demo_bundle: Path, normal_set: Path, tmp_path: Path
) -> None:
    data, own = read_dataset(normal_set), tmp_path / "own"
    shutil.copytree(demo_bundle, own)
    manifest = json.loads((own / "manifest.json").read_text())
    manifest["provenance"]["dataset_sha256"] = data.sha256()  # as if it had been
    (own / "manifest.json").write_text(json.dumps(manifest))
    save_split(Split(train=data.clips[:5], held_out=data.clips[5:], test=()), own / "report/split", data.root)
    run(own, "--on", normal_set, "--sigma", 3)
    assert calibration(own)["n_recordings"] == 1
    assert (own / "report/split/held_out.txt").read_text().splitlines() == [data.relative(data.clips[5])]


def test_recordings_of_too_low_a_rate_are_named(demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["synth", str(tmp_path / "set"), "--recordings", "3", "--seconds", "15", "--sample-rate", "8000"]) == 0
    run(demo_bundle, "--on", tmp_path / "set", "--sigma", 3, "--out", tmp_path / "low")
    assert "train: warning: 3 of 3 recordings (8000 Hz) contain nothing above 4 kHz" in capsys.readouterr().err


def test_a_bundle_learns_below_which_level_its_machine_is_off(
    demo_bundle: Path, normal_set: Path, demo_normal: Path, tmp_path: Path
) -> None:
    run(demo_bundle, "--on", normal_set, "--out", tmp_path / "fan-new")
    idle_below_dbfs = calibration(tmp_path / "fan-new")["idle_below_dbfs"]
    make = load_bundle(demo_bundle).scorer
    levels = score_pieces(make, pieces(read_dataset(normal_set).clips, sample_rate_hz=16000)).tick_levels_dbfs
    assert idle_below_dbfs == pytest.approx(np.percentile(levels, 1.0) - 10.0, abs=0.06)

    running, rate_hz = soundfile.read(demo_normal)
    off = 10 ** (-30 / 20) * running
    soundfile.write(tmp_path / "day.wav", np.concatenate((running, off, running)), rate_hz, subtype="FLOAT")
    ran = monitor("--replay", tmp_path / "day.wav", "--model", tmp_path / "fan-new", "--scores")
    states = [line["state"] for line in ran.segments]
    assert states.count("idle") > 10
    assert ran.events == []
    assert all(line["ratio"] is None for line in ran.segments if line["rms_dbfs"] < idle_below_dbfs)


def test_a_damaged_recording_of_ten_is_left_out(demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["synth", str(tmp_path / "set"), "--recordings", "10", "--seconds", "25", "--format", "wav"]) == 0
    whole = (tmp_path / "set/normal/0004.wav").read_bytes()
    (tmp_path / "set/normal/0004.wav").write_bytes(whole[:50])
    run(demo_bundle, "--on", tmp_path / "set", "--out", tmp_path / "fan")
    assert f"train: warning: left out: {tmp_path / 'set/normal/0004.wav'}: " in capsys.readouterr().err
    assert calibration(tmp_path / "fan")["n_recordings"] == 9
