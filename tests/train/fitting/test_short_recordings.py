"""Recordings of half a second to three seconds train by the recipe `default`, and clips of that length are judged."""

from pathlib import Path

import pytest
import yaml

from monitor.bundle import load_bundle
from monitor.bundle.manifest import CalibrationPart
from tests.replay.command import monitor
from train.cli.main import main as train
from train.recipes.recipe import RECIPES

N_LEARNED, N_FRESH = 24, 20


def synth(folder: Path, seconds: float, *, n: int, take: int, fault: str | None = None) -> list[Path]:
    """Clips of the made fan, each at another moment of it."""
    what = [
        "--recordings",
        str(n),
        "--seconds",
        str(seconds),
        "--take",
        str(take),
        *([] if fault is None else ["--fault", fault]),
    ]
    assert train(["synth", str(folder), *what]) == 0
    return sorted((folder / ("normal" if fault is None else "anomaly")).iterdir())


@pytest.fixture(scope="module", params=[0.5, 1.0, 3.0], ids=lambda seconds: f"{seconds:g}s")
def learned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A bundle of clips, trained for few epochs, and their length in seconds."""
    folder, seconds = tmp_path_factory.mktemp("short"), float(request.param)
    recipe = yaml.safe_load((RECIPES / "default.yaml").read_text())
    recipe["training"]["epochs"] = 2
    (folder / "quick.yaml").write_text(yaml.safe_dump(recipe))
    synth(folder / "set", seconds, n=N_LEARNED, take=0)
    assert train(["fit", str(folder / "set"), "--recipe", str(folder / "quick.yaml"), "--out", str(folder / "fan")]) == 0
    return folder / "fan", seconds


def calibration(bundle: Path) -> CalibrationPart:
    return load_bundle(bundle).manifest.calibration


def test_what_was_learned_counts_in_recordings_and_in_segments_joined_from_them(learned: tuple[Path, float]) -> None:
    bundle, seconds = learned
    found = calibration(bundle)
    assert found.n_recordings == N_LEARNED
    assert found.hours == pytest.approx(N_LEARNED * seconds / 3600, rel=0.15)  # whole frames
    assert 1 <= found.n_units <= N_LEARNED
    assert found.n_segments == found.n_units  # none shares sound with another
    assert found.bound_95_per_week is None


def test_alarm_levels_lie_above_warning_levels(learned: tuple[Path, float]) -> None:
    found = calibration(learned[0])
    assert found.alarm_threshold is not None
    assert found.file_alarm_threshold is not None
    assert 0.9 < found.threshold < found.alarm_threshold
    assert 1.0 < found.file_threshold < found.file_alarm_threshold


def test_fresh_clips_of_the_same_machine_are_mostly_normal_and_faulty_ones_are_not(
    learned: tuple[Path, float], tmp_path: Path
) -> None:
    bundle, seconds = learned
    normal = synth(tmp_path / "fresh", seconds, n=N_FRESH, take=500)
    faulty = synth(tmp_path / "fresh", seconds, n=5, take=900, fault="bearing")
    files = monitor("--replay", *normal, *faulty, "--model", bundle).files
    verdicts = [file["verdict"] for file in files]
    assert verdicts[:N_FRESH].count("normal") >= 0.85 * N_FRESH
    assert verdicts[N_FRESH:] == ["anomaly"] * 5
    assert all(file["bands"] and file["summary"] for file in files[N_FRESH:])
