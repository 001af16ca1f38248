"""The recipe `default` learns the fast path, `train calibrate` learns it anew, and `monitor` tells a scream with it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from monitor.bundle import load_bundle
from monitor.bundle.write import STATISTICS, amended, file_ref, manifest_json
from monitor.errors import BundleError, ConfigError
from tests.replay.command import monitor
from tests.train.recipes.test_recipes import quick
from train.cli.main import main as train
from train.datasets import read_dataset
from train.evaluation.close_up import close_up
from train.evaluation.evaluate import evaluate
from train.evaluation.results import shipped_model
from train.recipes.recipe import load_recipe
from train.report.figures.over_time import over_time
from train.report.style import ReportFigure


@pytest.fixture(scope="session")
def normal_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fast-set")
    assert train(["synth", str(folder), "--recordings", "8", "--seconds", "20", "--seed", "6"]) == 0
    return folder


@pytest.fixture(scope="session")
def bundle(normal_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fast")
    recipe = quick("default", folder)
    assert train(["fit", str(normal_set), "--recipe", str(recipe), "--out", str(folder / "mine")]) == 0
    return folder / "mine"


def test_a_recipe_with_the_fast_path_gives_a_bundle_that_tells_a_scream(bundle: Path, normal_set: Path, tmp_path: Path) -> None:
    calibration = load_bundle(bundle).manifest.calibration
    assert calibration.fast_threshold is not None
    assert calibration.fast_threshold >= 10.0
    assert f"{calibration.fast_threshold:.3g} dB louder" in calibration.statement
    quiet, _ = soundfile.read(sorted((normal_set / "normal").iterdir())[0], dtype="float32")
    onset = round(8.4 * 16000)
    sound = quiet.copy()
    sound[onset:] += 10 ** (15 / 20) * np.std(quiet) * np.sqrt(2) * np.sin(0.9 * np.arange(len(sound) - onset))
    assert np.abs(sound).max() < 1
    soundfile.write(tmp_path / "scream.wav", sound, 16000)
    events = monitor("--replay", tmp_path / "scream.wav", "--model", bundle, "--scores")
    (start, end) = events.events
    assert (start["raised_by"], end["raised_by"]) == ("fast", "fast")
    assert start["threshold"] == calibration.fast_threshold
    assert start["ts"] < "1970-01-01T00:00:11.400Z"
    excesses = [line["excess_db"] for line in events.segments if line["excess_db"] is not None]
    assert max(excesses[:7]) <= 0.0 < calibration.fast_threshold < max(excesses)


def test_the_report_shows_what_it_hears(bundle: Path, normal_set: Path) -> None:
    evaluation = evaluate(bundle, read_dataset(normal_set))
    _, model, n_rows = shipped_model(evaluation)
    detail = close_up(evaluation.test[0], evaluation, model, n_rows=n_rows)
    at = evaluation.bundle.manifest.calibration
    with_it, without = (
        over_time(detail, threshold=at.threshold, fast_threshold=threshold, unit="score")
        for threshold in (at.fast_threshold, None)
    )
    assert "reported at once" in with_it.reading
    assert "reported at once" not in without.reading
    assert height_px(with_it) > 1.5 * height_px(without)


def height_px(figure: ReportFigure) -> int:
    """As its PNG says."""
    return int.from_bytes(figure.png[20:24], "big")


def test_calibrating_learns_it_anew(bundle: Path, tmp_path: Path) -> None:
    louder = tmp_path / "louder"
    assert train(["synth", str(louder), "--recordings", "3", "--seconds", "30", "--seed", "6", "--take", "50"]) == 0
    for path in (louder / "normal").iterdir():
        sound, rate_hz = soundfile.read(path)
        soundfile.write(path, 2.0 * sound, rate_hz)
    assert train(["calibrate", str(bundle), "--on", str(louder), "--out", str(tmp_path / "anew")]) == 0
    before, after = (load_bundle(folder).statistics for folder in (bundle, tmp_path / "anew"))
    assert before is not None
    assert after is not None
    assert before.fast_ceiling_db is not None
    assert after.fast_ceiling_db is not None
    assert np.median(after.fast_ceiling_db - before.fast_ceiling_db) == pytest.approx(6.0, abs=1.5)
    assert load_bundle(tmp_path / "anew").manifest.calibration.fast_threshold is not None


def test_a_bundle_without_it_has_none_after_calibrating(demo_bundle: Path, normal_set: Path, tmp_path: Path) -> None:
    assert train(["calibrate", str(demo_bundle), "--on", str(normal_set), "--out", str(tmp_path / "anew")]) == 0
    new = load_bundle(tmp_path / "anew")
    assert new.manifest.calibration.fast_threshold is None
    assert new.scorer().ceiling_db is None


def test_an_imported_model_has_it_where_the_recipe_and_normal_sound_say_so(
    bundle: Path, normal_set: Path, tmp_path: Path
) -> None:
    model = str(bundle / "model.tflite")
    out = tmp_path / "imported"
    assert train(["import-model", model, "--recipe", "default", "--out", str(out), "--calibrate-on", str(normal_set)]) == 0
    assert load_bundle(out).manifest.calibration.fast_threshold is not None
    assert train(["import-model", model, "--recipe", "default", "--out", str(out), "--threshold", "50"]) == 0
    assert load_bundle(out).manifest.calibration.fast_threshold is None


def test_threshold_and_ceiling_are_there_together_or_not_at_all(bundle: Path, demo_bundle: Path, tmp_path: Path) -> None:
    for name, folder, threshold, message in (
        ("mine", bundle, None, r"statistics must hold .*, got .*fast_ceiling_db"),
        ("demo-fan", demo_bundle, 12.0, r"statistics must hold .*fast_ceiling_db.*, got"),
    ):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        manifest = load_bundle(copy).manifest
        calibration = {**manifest.calibration.model_dump(), "fast_threshold": threshold}
        (copy / "manifest.json").write_bytes(manifest_json(amended(manifest, name=name, calibration=calibration)))
        with pytest.raises(BundleError, match=message):
            load_bundle(copy)


@pytest.mark.parametrize(
    ("ceiling", "message"),
    [
        (np.zeros(5, np.float32), r"statistics.fast_ceiling_db must be \(128,\) finite numbers, got \(5,\)"),
        (np.full(128, np.nan, np.float32), r"statistics.fast_ceiling_db must be \(128,\) finite numbers"),
    ],
)
def test_a_ceiling_that_does_not_fit_is_refused(bundle: Path, tmp_path: Path, ceiling: np.ndarray, message: str) -> None:
    copy = tmp_path / "mine"
    shutil.copytree(bundle, copy)
    with np.load(copy / STATISTICS) as archive:
        arrays = {**archive, "fast_ceiling_db": ceiling}
    np.savez(copy / STATISTICS, **arrays)
    manifest = load_bundle(bundle).manifest
    part = {**dict(manifest.detector), "statistics": file_ref(STATISTICS, (copy / STATISTICS).read_bytes())}
    (copy / "manifest.json").write_bytes(manifest_json(amended(manifest, name="mine", detector=part)))
    with pytest.raises(BundleError, match=message):
        load_bundle(copy)


def test_ticks_too_short_for_it_are_refused(tmp_path: Path) -> None:
    path = quick("default", tmp_path)
    path.write_text(path.read_text().replace("description:", "tick_frames: 24\ndescription:"))
    with pytest.raises(ConfigError, match=r"calibration.fast_path needs ticks of 0.8 to 1.15 s, got 0.768 s"):
        load_recipe(str(path))
