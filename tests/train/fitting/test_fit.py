"""`train fit` from a folder to a bundle that `monitor` takes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from monitor.bundle import Manifest, load_bundle
from monitor.bundle.manifest import read_manifest
from tests.replay.command import monitor
from train.calibration.normal_scores import score_pieces
from train.cli.main import main as train
from train.datasets import read_dataset, split_dataset, split_pieces
from train.recipes.recipe import RECIPES


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    assert train(["synth", str(folder), "--recordings", "10", "--seconds", "30", "--seed", "5"]) == 0
    return folder


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped recipe with few epochs, as a user's own file."""
    recipe = yaml.safe_load((RECIPES / "mimii-mel.yaml").read_text())
    recipe["training"]["epochs"] = 3
    path = tmp_path_factory.mktemp("recipes") / "quick.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="session")
def fitted(dataset: Path, quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "fan-5"
    assert train(["fit", str(dataset), "--recipe", str(quick), "--out", str(out), "--seed", "1"]) == 0
    return out


def test_a_base_bundle_has_no_report_and_judges_nothing(
    dataset: Path, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "base"
    assert train(["fit", str(dataset), "--recipe", str(quick), "--out", str(out), "--base"]) == 0
    assert "judges nothing until `monitor learn`" in capsys.readouterr().out
    bundle = load_bundle(out)
    assert (bundle.is_base, bundle.expected) == (True, None)
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "model.tflite", "statistics.npz"]
    for command in (
        ["calibrate", str(out), "--on", str(dataset)],
        ["evaluate", str(out), str(dataset), "--out", str(tmp_path / "r")],
    ):
        assert train(command) == 78
        assert "is a base bundle, which judges nothing" in capsys.readouterr().err


def test_the_bundle_is_complete_and_accepted(fitted: Path) -> None:
    manifest = load_bundle(fitted).manifest
    assert manifest.name == "fan-5"
    assert sorted(path.relative_to(fitted).as_posix() for path in fitted.rglob("*.*")) == [
        *("manifest.json", "model.tflite", "report/model_float32.tflite"),
        *(f"report/split/{name}.txt" for name in ("held_out", "test", "train")),
        *("report/training.json", "statistics.npz"),
    ]
    assert (manifest.calibration.method, manifest.calibration.parameters, manifest.calibration.n_recordings) == (
        "mean+k*sigma",
        {"k": 4.0},
        2,
    )
    assert manifest.provenance.recipe == "quick"
    assert manifest.provenance.seed == 1
    assert len(json.loads((fitted / "report/training.json").read_text())["losses"]["loss"]) == 3


def test_the_network_is_the_recipes(fitted: Path) -> None:
    import tensorflow as tf

    shapes = [
        tuple(tensor["shape"])
        for tensor in tf.lite.Interpreter(str(fitted / "model.tflite")).get_tensor_details()
        if tensor["dtype"] == np.int8 and len(tensor["quantization_parameters"]["scales"]) > 1
    ]
    assert sorted(shapes) == sorted([(64, 320), (64, 64), (8, 64), (64, 8), (64, 64), (320, 64)])


def test_the_same_seed_gives_the_same_bytes(fitted: Path, dataset: Path, quick: Path, tmp_path: Path) -> None:
    again = tmp_path / "fan-5"
    assert train(["fit", str(dataset), "--recipe", str(quick), "--out", str(again), "--seed", "1"]) == 0
    for name in ("model.tflite", "statistics.npz", "report/model_float32.tflite"):
        same = (again / name).read_bytes() == (fitted / name).read_bytes()
        assert same, name
    one, two = read_manifest(fitted), read_manifest(again)
    assert one.calibration == two.calibration
    assert one.golden == two.golden


def test_the_threshold_is_that_of_the_held_out_segments_on_the_int8_model(fitted: Path, dataset: Path) -> None:
    manifest: Manifest = read_manifest(fitted)
    split = split_dataset(read_dataset(dataset), held_out=0.2, seed=1)
    _, held_out = split_pieces(split, sample_rate_hz=16000)
    scores = score_pieces(load_bundle(fitted).scorer, held_out).segment_scores
    assert manifest.calibration.n_segments == len(scores)
    assert manifest.calibration.threshold == pytest.approx(scores.mean() + 4 * scores.std(ddof=1), rel=1e-12)
    by_hand = []
    for piece in held_out:
        ran = monitor("--replay", piece.recording.path, "--model", fitted, "--scores")
        by_hand += [line["score"] for line in ran.segments if line["n_ticks"] == 10]
    assert scores.tolist() == by_hand


def test_the_write_ups_two_sigma_is_a_flag(dataset: Path, quick: Path, tmp_path: Path) -> None:
    assert train(["fit", str(dataset), "--recipe", str(quick), "--out", str(tmp_path / "two"), "--sigma", "2"]) == 0
    assert read_manifest(tmp_path / "two").calibration.parameters == {"k": 2.0}


def test_it_tells_a_fault_from_normal_sound(fitted: Path, tmp_path: Path) -> None:
    normal, fault = tmp_path / "normal.flac", tmp_path / "fault.flac"
    common = ["--seconds", "60", "--seed", "5", "--take", "77"]
    assert train(["synth", str(normal), *common]) == 0
    assert train(["synth", str(fault), *common, "--fault", "rubbing"]) == 0
    ran = monitor("--replay", normal, fault, "--model", fitted)
    assert [file["verdict"] for file in ran.files] == ["normal", "anomaly"]
    assert [file["n_events"] for file in ran.files] == [0, 1]


@pytest.mark.parametrize("seconds", [[120.0], [11.0, 47.0, 12.5], [10.0] * 12])
def test_recordings_of_any_number_and_length(seconds: list[float], quick: Path, tmp_path: Path) -> None:
    for i, length in enumerate(seconds):
        out = tmp_path / f"set/normal/deep/{i}.wav"
        assert train(["synth", str(out), "--seconds", str(length), "--take", str(i)]) == 0
    assert train(["fit", str(tmp_path / "set"), "--recipe", str(quick), "--out", str(tmp_path / "any")]) == 0
    assert load_bundle(tmp_path / "any").manifest.calibration.n_segments >= 2


@pytest.mark.parametrize(
    ("make", "status", "message"),
    [
        ("nothing", 1, "no such folder"),
        ("empty", 1, "contains no sound files"),
        ("text", 1, "is not a supported audio file"),
        ("short", 1, "must hold at least 0.19 s of sound to train on, got 0.09 s (and 2 more; see train inspect)"),
        ("silent", 1, "is silent, so it cannot be trained on (and 2 more; see train inspect)"),
        ("clipped", 1, "is clipped in 100% of its length (at most 10% allowed)"),
    ],
)
def test_bad_data_sets_are_named(
    make: str, status: int, message: str, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set" / "normal"
    if make != "nothing":
        folder.mkdir(parents=True)
    if make == "text":
        (folder / "a.wav").write_text("no sound")
    if make == "short":
        for i in range(3):
            soundfile.write(folder / f"{i}.wav", np.sin(np.arange(1500) / 9.0) / 4, 16000)
    if make in ("silent", "clipped"):
        for i in range(3):
            level = np.sign(np.sin(np.arange(320_000) / 9.0)) if make == "clipped" else np.zeros(320_000)
            soundfile.write(folder / f"{i}.wav", level, 16000)
    assert train(["fit", str(tmp_path / "set"), "--recipe", str(quick), "--out", str(tmp_path / "out")]) == status
    error = capsys.readouterr().err.splitlines()
    assert len([line for line in error if line.startswith("train: error:")]) == 1
    assert message in "\n".join(error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("training", "epochs"), 0, "training.epochs: Input should be greater than or equal to 1, got 0"),
        (("network", "hidden"), [], "network.dense.hidden: Tuple should have at least 1 item"),
        (("front_end", "hop_length"), 0, "hop_length must be in 1..1024, got 0"),
        (("front_end", "mels"), 3, "front_end.log_mel.mels: Unexpected keyword argument"),
        (("colour",), "red", "colour: Extra inputs are not permitted"),
    ],
)
def test_bad_recipes_name_their_key(
    keys: tuple[str, ...], value: object, message: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = yaml.safe_load((RECIPES / "mimii-mel.yaml").read_text())
    part = recipe
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert train(["fit", str(dataset), "--recipe", str(path), "--out", str(tmp_path / "out")]) == 78
    assert message in capsys.readouterr().err


def test_an_unknown_recipe_lists_the_shipped_ones(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["fit", str(dataset), "--recipe", "magic", "--out", str(tmp_path / "out")]) == 78
    assert (
        "recipe must be one of conv, dcase, default, idnn, mimii-mel, toyadmos-fft, wide, or a readable file, got 'magic'"
        in capsys.readouterr().err
    )


def test_a_failure_leaves_the_old_bundle(fitted: Path, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "keep"
    shutil.copytree(fitted, out)
    (tmp_path / "set" / "normal").mkdir(parents=True)
    assert train(["fit", str(tmp_path / "set"), "--recipe", str(quick), "--out", str(out)]) == 1
    assert (out / "manifest.json").read_bytes() == (fitted / "manifest.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_is_no_bundle_is_not_replaced(
    dataset: Path, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert train(["fit", str(dataset), "--recipe", str(quick), "--out", str(tmp_path / "mine")]) == 78
    assert "must be a new folder or a bundle to replace" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("command", ["fit", "calibrate"])
def test_sound_without_any_of_the_models_bands_is_refused(
    command: str, dataset: Path, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = yaml.safe_load(quick.read_text())
    recipe["front_end"]["fmin_hz"] = 5000.0
    (tmp_path / "high.yaml").write_text(yaml.safe_dump(recipe))
    fit = ["--recipe", str(tmp_path / "high.yaml"), "--out", str(tmp_path / "out"), "--verbose"]
    low = tmp_path / "low"
    assert train(["synth", str(low), "--recordings", "4", "--seconds", "20", "--sample-rate", "8000"]) == 0
    if command == "calibrate":
        assert train(["fit", str(dataset), *fit]) == 0
    options = fit if command == "fit" else ["--on", str(low)]
    capsys.readouterr()
    assert train([command, *([str(low)] if command == "fit" else [str(tmp_path / "out")]), *options]) == 1
    told, error = capsys.readouterr()
    assert "Epoch" not in told
    assert error.splitlines() == [
        "train: error: 4 of 4 recordings (8000 Hz) contain nothing above 4 kHz, where 64 of the model's 64 bands lie: "
        "use --recipe wide"
        if command == "fit"
        else "train: error: 4 of 4 recordings have no sound in the model's bands: "
        "all 64 bands lie above half their rate (4 kHz at 8000 Hz)"
    ]


def test_sound_below_the_floor_is_refused(dataset: Path, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = yaml.safe_load(quick.read_text())
    recipe["front_end"]["floor"] = 1.0
    (tmp_path / "deaf.yaml").write_text(yaml.safe_dump(recipe))
    assert train(["fit", str(dataset), "--recipe", str(tmp_path / "deaf.yaml"), "--out", str(tmp_path / "out"), "--verbose"]) == 1
    told, error = capsys.readouterr()
    assert "Epoch" not in told
    assert error.splitlines()[-1] == "train: error: the recordings are silent in the recipe's bands (0 dB in all of them)"


def test_a_training_that_diverges_stops_at_once(
    dataset: Path, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = yaml.safe_load(quick.read_text())
    recipe["training"]["learning_rate"] = 1e9
    (tmp_path / "wild.yaml").write_text(yaml.safe_dump(recipe))
    assert train(["fit", str(dataset), "--recipe", str(tmp_path / "wild.yaml"), "--out", str(tmp_path / "out"), "--verbose"]) == 1
    told, error = capsys.readouterr()
    assert "Epoch 2/" not in told
    assert "training diverged in epoch 1: " in error
    assert "training.learning_rate (got 1e+09) may be too high" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wild.yaml"]


def test_two_segments_to_train_on_are_too_few_for_a_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(3):
        assert train(["synth", str(tmp_path / f"set/normal/{i}.wav"), "--seconds", "12", "--take", str(i)]) == 0
    for part, some in (("train", [0]), ("held_out", [1]), ("test", [2])):
        (tmp_path / f"{part}.txt").write_text("".join(f"normal/{i}.wav\n" for i in some))
    options = ["--recipe", "default", "--out", str(tmp_path / "out"), "--split", str(tmp_path), "--verbose"]
    assert train(["fit", str(tmp_path / "set"), *options]) == 1
    told, error = capsys.readouterr()
    assert "2 recordings to train on must give at least 3 segments of 10.2 s (a shorter recording counts as one), got 2" in error
    assert "Epoch" not in told


def test_what_is_left_out_of_training_is_told(quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part of a recording by its seconds, a recording by its name: a damaged one of ten does not stop the training."""
    for i in range(9):
        assert train(["synth", str(tmp_path / f"set/normal/{i}.wav"), "--seconds", "30", "--take", str(i)]) == 0
    samples, rate_hz = soundfile.read(tmp_path / "set/normal/1.wav", dtype="float32")
    (tmp_path / "set/normal/damaged.wav").write_bytes((tmp_path / "set/normal/2.wav").read_bytes()[:50])
    samples[10 * rate_hz : 16 * rate_hz] = 0.0
    soundfile.write(tmp_path / "set/normal/1.wav", samples, rate_hz)
    capsys.readouterr()
    assert train(["fit", str(tmp_path / "set"), "--recipe", str(quick), "--out", str(tmp_path / "out")]) == 0
    error = capsys.readouterr().err
    assert "train: warning: left out: " + str(tmp_path / "set/normal/damaged.wav") in error
    lists = (tmp_path / "out/report/split/train.txt", tmp_path / "out/report/split/held_out.txt")
    listed = [name for path in lists for name in path.read_text().splitlines()]
    assert sorted(listed) == [f"normal/{i}.wav" for i in range(9)]
    (line,) = (line for line in error.splitlines() if line.endswith(", which the device would not score either"))
    assert "6 s silent" in line
    assert "1 s gap" in line  # the tick with less than half of it silent
    left_out = read_manifest(tmp_path / "out").provenance.metrics["left_out_s"]
    assert isinstance(left_out, dict)
    assert left_out["silent"] == pytest.approx(6 * 1.024)  # ticks that are silent for more than half
