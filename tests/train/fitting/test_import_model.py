from pathlib import Path

import pytest

from monitor.bundle.manifest import read_manifest
from train.cli.main import main as train
from train.datasets import Split, read_dataset, save_split


def test_a_threshold_can_be_set_on_normal_sound(demo_bundle: Path, tmp_path: Path) -> None:
    assert train(["synth", str(tmp_path / "set"), "--recordings", "3", "--seconds", "20"]) == 0
    model = str(demo_bundle / "report" / "model_float32.tflite")
    out = tmp_path / "imported"
    arguments = ["import-model", model, "--recipe", "mimii-mel", "--out", str(out), "--calibrate-on", str(tmp_path / "set")]
    assert train(arguments) == 0
    manifest = read_manifest(out)
    assert manifest.calibration.n_recordings == 3
    assert manifest.detector.statistics is not None
    assert manifest.calibration.threshold == pytest.approx(read_manifest(demo_bundle).calibration.threshold, rel=0.1)


def test_a_threshold_can_be_set_on_what_a_split_holds_out(demo_bundle: Path, tmp_path: Path) -> None:
    assert train(["synth", str(tmp_path / "set"), "--recordings", "3", "--seconds", "20"]) == 0
    data = read_dataset(tmp_path / "set")
    save_split(Split(train=data.clips[:1], held_out=data.clips[1:], test=()), tmp_path / "lists", data.root)
    arguments = ["import-model", str(demo_bundle / "model.tflite"), "--recipe", "mimii-mel", "--out", str(tmp_path / "out")]
    listed = ["--calibrate-on", str(tmp_path / "set"), "--split", str(tmp_path / "lists"), "--layout", "plain"]
    assert train([*arguments, *listed]) == 0
    assert read_manifest(tmp_path / "out").calibration.n_recordings == 2


@pytest.mark.parametrize(
    "option", [("--sigma", "3"), ("--split", "lists"), ("--layout", "plain"), ("--machine", "fan"), ("--channel", "2")]
)
def test_a_threshold_that_is_given_leaves_nothing_to_listen_to(
    option: tuple[str, str], demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--out", str(tmp_path / "out"), "--threshold", "1", *option]
    assert train(["import-model", str(demo_bundle / "model.tflite"), "--recipe", "mimii-mel", *given]) == 2
    assert f"{option[0]} requires --calibrate-on, got --threshold" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "recipe", "message"),
    [
        (None, "mimii-mel", "cannot be read: No such file or directory"),
        (b"no model", "mimii-mel", "model cannot be loaded"),
        ("demo", "dcase", "model's input must have 640 values (5 frames of 128 bands), got 320"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    content: bytes | str | None, recipe: str, message: str, demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.tflite"
    if content == "demo":
        model = demo_bundle / "model.tflite"
    elif isinstance(content, bytes):
        model.write_bytes(content)
    status = train(["import-model", str(model), "--recipe", recipe, "--out", str(tmp_path / "out"), "--threshold", "1"])
    assert status in (1, 78)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
