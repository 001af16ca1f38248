"""Every shipped recipe trains, exports to int8 and runs in `monitor` with no code of its own there."""

import json
from pathlib import Path

import pytest
import soundfile
import yaml

from monitor.bundle import load_bundle
from monitor.bundle.manifest import read_manifest
from tests.replay.command import monitor
from train.cli.main import main as train
from train.datasets import read_dataset, split_dataset
from train.recipes.recipe import RECIPES, load_recipe

NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def quick(name: str, folder: Path, **training: object) -> Path:
    """A user's own recipe file: a shipped one with few epochs."""
    content = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    content["training"].update({"epochs": 2, **training})
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight normal and three faulty clips at 48 kHz."""
    folder = tmp_path_factory.mktemp("sounds")
    common = ["--seconds", "12", "--sample-rate", "48000", "--seed", "4"]
    assert train(["synth", str(folder), "--recordings", "8", *common]) == 0
    assert train(["synth", str(folder), "--recordings", "3", "--fault", "bearing", *common]) == 0
    return folder


def test_the_seven_recipes_are_there() -> None:
    assert NAMES == ["conv", "dcase", "default", "idnn", "mimii-mel", "toyadmos-fft", "wide"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_and_runs(name: str, sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    recipe = quick(name, tmp_path, **({"epochs": 15, "batch_size": 32} if name == "dcase" else {}))  # unscaled decibels take time
    assert train(["fit", str(sounds), "--recipe", str(recipe), "--out", str(out)]) == 0
    manifest = load_bundle(out).manifest
    assert manifest.rule.raise_k > manifest.segment_ticks
    clips = sorted((sounds / "anomaly").glob("*.flac")) + sorted((sounds / "normal").glob("*.flac"))
    scores = [file["score"] for file in monitor("--replay", *clips, "--model", out).files]
    assert len(scores) == 11
    assert min(scores[:3]) > max(scores[3:])  # a failing bearing is no subtle fault


def test_the_default_recipe_makes_do_with_six_clips_and_says_so(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set/normal").mkdir(parents=True)
    for clip in sorted((sounds / "normal").glob("*.flac"))[:6]:
        samples, rate_hz = soundfile.read(clip, frames=10 * 48_000, dtype="float32")
        soundfile.write(tmp_path / "set/normal" / clip.name, samples, rate_hz)
    command = ["fit", str(tmp_path / "set"), "--recipe", str(quick("default", tmp_path)), "--out", str(tmp_path / "six")]
    assert train([*command, "--verbose"]) == 0
    found = load_bundle(tmp_path / "six").manifest.calibration
    assert (found.n_recordings, found.n_units, found.bound_95_per_week) == (6, 6, None)
    told, warned = capsys.readouterr()
    assert "too little sound to find more than severe faults: record at least 12 recordings, or two minutes in one file" in warned
    assert told.splitlines()[-1] == "next: record more, then run this command again"
    assert "The recordings are too short to count false events in a replay, so their rate could not be verified." in told
    assert "With fewer than 12 recordings (or 10 s segments of longer ones) only severe faults are detected" in told
    for clip in sorted((tmp_path / "set/normal").glob("*"))[:4]:
        clip.unlink()
    assert train(command) == 1
    assert "2 recordings to train on must give at least 3 segments of 10.2 s" in capsys.readouterr().err


def test_idnn_never_sees_the_frame_that_it_predicts(sounds: Path, tmp_path: Path) -> None:
    assert train(["fit", str(sounds), "--recipe", str(quick("idnn", tmp_path)), "--out", str(tmp_path / "idnn")]) == 0
    model = read_manifest(tmp_path / "idnn").model
    assert (model.input_frames, model.target_frames) == ((0, 1, 3, 4), (2,))


def test_every_recipe_explains_every_key() -> None:
    for name in NAMES:
        text = (RECIPES / f"{name}.yaml").read_text().splitlines()
        unexplained = [line for line in text if ":" in line and not line.rstrip().endswith(":") and "#" not in line]
        assert {line.split(":")[0].strip() for line in unexplained} == {"description"}, name


def detector(**modulation: object) -> dict[str, object]:
    return {"modulation": {"n_groups": 16, "lags_frames": [1, 2, 4, 8, 16], **modulation}}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("toyadmos-fft", {"network": {"scaling": "none"}}, "output sigmoid and scaling minmax belong together"),
        ("toyadmos-fft", {"front_end": {"n_bins": 500}}, "n_bins must divide n_fft // 2 (512), got 500"),
        ("idnn", {"window": {"n_frames": 4}}, "window.n_frames must be odd to have a centre, and at least 3, got 4"),
        ("idnn", {"window": {"n_frames": 1}}, "window.n_frames must be odd to have a centre, and at least 3, got 1"),
        ("conv", {"window": {"n_frames": 30}}, "window.n_frames must be a multiple of 8 for 3 filters, got 30"),
        ("conv", {"tick_frames": 32, "window": {"hop_frames": 5}}, "window.hop_frames must divide tick_frames (32), got 5"),
        ("default", {"max_states": 5}, "max_states: Input should be less than or equal to 4, got 5"),
        ("conv", {"network": {"hidden": [3]}}, "network.conv.hidden: Extra inputs are not permitted"),
        ("default", {"detector": detector(n_groups=200)}, "detector.modulation.n_groups must be in 1..128, got 200"),
        (
            "default",
            {"detector": detector(lags_frames=[4, 2])},
            "detector.modulation.lags_frames must be above 0 and rise, got [4, 2]",
        ),
        (
            "default",
            {"detector": detector(lags_frames=[40])},
            "detector.modulation.lags_frames must be below tick_frames (32), got 40",
        ),
        (
            "default",
            {"calibration": {"part": "held_out"}},
            "calibration.part must be cross_fitted for components reconstruction, spectrum, modulation, got held_out",
        ),
        ("mimii-mel", {"tick_frames": 1100}, "tick_frames: Input should be less than or equal to 1024, got 1100"),
        ("mimii-mel", {"segment_s": 2000.0}, "segment_s must be at most 1024 ticks, 1048.58 s, got 2000"),
        ("mimii-mel", {"calibration": {"k": 200.0}}, "calibration: k must be above 0 and at most 100, got 200"),
        ("mimii-mel", {"as_published": "x"}, "as_published must be a mapping of keys, got a str"),
        ("toyadmos-fft", {"as_published": {"training": 5}}, "own.yaml, as_published: training: Input should be an object, got 5"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(
    name: str,
    change: dict[str, object],
    message: str,
    sounds: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    for section, keys in change.items():
        content[section] = content[section] | keys if isinstance(keys, dict) else keys
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    assert train(["fit", str(sounds), "--recipe", str(path), "--out", str(tmp_path / "out")]) == 78
    told, error = capsys.readouterr()
    assert error.startswith(f"train: error: {path}")
    assert message in error
    assert "Epoch" not in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("description: &a [*a]", "is not YAML: line 1, column 18: alias a refers to a value that contains it"),
        ("training: {2020-01-01: 5}", "must consist of texts, numbers, lists and mappings: keys must be str"),
    ],
)
def test_yaml_that_is_no_tree_is_refused(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"{text}\n")
    assert train(["fit", str(tmp_path), "--recipe", str(path), "--out", str(tmp_path / "out")]) == 78
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"train: error: {path}: {message}")


def test_as_published_is_the_write_up_with_its_leaks_named() -> None:
    recipe = load_recipe("toyadmos-fft", as_published=True)
    assert (recipe.front_end.n_fft, recipe.front_end.n_bands, recipe.segment_ticks) == (480_000, 240_000, 1)
    assert (recipe.calibration.part, recipe.calibration.k, recipe.training.validate_on) == ("training", 2.0, "test")
    assert recipe.training.split_by == "file"
    assert len(recipe.leaks) == 3
    assert load_recipe("toyadmos-fft").leaks == ()


def test_the_write_up_on_mimii_has_its_seed_without_a_flag(sounds: Path, tmp_path: Path) -> None:
    """And its split: a fifth of the normal clips is tested with every anomalous one."""
    recipe = quick("mimii-mel", tmp_path, epochs=1)
    common = ["fit", str(sounds), "--recipe", str(recipe), "--out"]
    assert train([*common, str(tmp_path / "published")]) == 0
    assert train([*common, str(tmp_path / "other"), "--seed", "0"]) == 0
    assert [read_manifest(tmp_path / name).provenance.seed for name in ("published", "other")] == [42, 0]
    lists = [(tmp_path / "published/report/split" / f"{name}.txt").read_text() for name in ("train", "held_out", "test")]
    split = split_dataset(read_dataset(sounds), held_out=0.2, seed=42)
    assert lists[2].splitlines() == [clip.path.relative_to(sounds).as_posix() for clip in split.test]
    assert sum(line.startswith("normal/") for line in lists[2].splitlines()) == round(0.2 * 8)
    assert lists[2].count("anomaly/") == 3


def test_as_published_runs_on_shorter_clips(sounds: Path, tmp_path: Path) -> None:
    """One FFT of a second instead of ten: 24,000 values in and out, all else as published."""
    content = yaml.safe_load((RECIPES / "toyadmos-fft.yaml").read_text())
    content["as_published"]["front_end"] = {"n_fft": 48_000, "hop_length": 48_000, "n_bins": 24_000}
    content["training"]["epochs"] = 1
    path = tmp_path / "second.yaml"
    path.write_text(yaml.safe_dump(content))
    out = tmp_path / "published"
    assert train(["fit", str(sounds), "--recipe", str(path), "--out", str(out), "--as-published"]) == 0
    manifest = read_manifest(out)
    leaks = manifest.provenance.metrics["leaks"]
    assert isinstance(leaks, list)
    assert len(leaks) == 3
    assert manifest.calibration.parameters == {"k": 2.0}
    clip = next((sounds / "normal").glob("*.flac"))
    refused = monitor("--replay", clip, "--model", out)
    assert refused.status == 78
    assert "bundle is too large: it would need 71 MB of memory (at most 64 MB)" in refused.stderr
    assert monitor("--replay", clip, "--model", out, "--large-bundle").files[0]["score"] > 0


def test_an_interrupted_training_resumes_to_the_same_bytes(sounds: Path, tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys
    import time

    recipe = quick("mimii-mel", tmp_path, epochs=25)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    arguments = ["fit", str(sounds), "--recipe", str(recipe)]
    assert train([*arguments, "--out", str(whole)]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "train.cli.main", *arguments, "--out", str(resumed), "--verbose"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Epoch 8/"):
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in stderr
    assert not resumed.exists()
    assert train([*arguments, "--out", str(resumed), "--resume"]) == 0
    same = (whole / "model.tflite").read_bytes() == (resumed / "model.tflite").read_bytes()
    assert same  # pytest would take minutes to show the difference of such bytes
    losses = [json.loads((out / "report/training.json").read_text())["losses"]["loss"] for out in (whole, resumed)]
    assert len(losses[0]) == 25
    assert losses[0] == losses[1]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
