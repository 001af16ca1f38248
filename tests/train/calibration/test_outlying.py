"""Recordings of a fault or of another machine among normal ones are named; states of the machine, and chance, are not."""

import re
from pathlib import Path

import numpy as np
import pytest

from monitor.learning.thresholds import FUSED_PRIOR
from tests.train.fleet.plant import recordings, tiny_recipe, write
from train.calibration.cross_fitted import Stretch
from train.calibration.outlying import outlying_notes, outlying_recordings
from train.cli.main import main


def stretches(scores: np.ndarray) -> list[Stretch]:
    return [Stretch(name=f"/data/{number:03d}.wav", score=float(score)) for number, score in enumerate(scores)]


@pytest.mark.parametrize("n", [8, 15, 60, 400])
@pytest.mark.parametrize("spread", [0.05, 0.2, 0.6])
def test_chance_names_few(n: int, spread: float) -> None:
    chance, named = np.random.default_rng(0), 0
    for _ in range(200):
        named += bool(outlying_recordings(stretches(np.exp(chance.normal(0.0, spread, n))), FUSED_PRIOR))
    assert named <= 0.03 * 200


@pytest.mark.parametrize("factors", [(8.0,), (8.0, 9.0), (500.0, 8.0, 30.0)])
def test_several_do_not_hide_each_other(factors: tuple[float, ...]) -> None:
    scores = np.exp(np.random.default_rng(0).normal(0.0, 0.2, 20))
    scores[: len(factors)] = factors
    found = outlying_recordings(stretches(scores), FUSED_PRIOR)
    assert set(found) == {f"/data/{number:03d}.wav" for number in range(len(factors))}
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_state_that_is_a_third_of_the_recordings_is_no_outlier() -> None:
    scores = np.exp(np.random.default_rng(0).normal(0.0, 0.1, 21))
    scores[:7] *= 10.0
    assert outlying_recordings(stretches(scores), FUSED_PRIOR) == {}


def test_parts_of_a_recording_count_once_by_the_highest() -> None:
    found = outlying_recordings([*stretches(np.ones(10)), Stretch(name="/data/003.wav", score=50.0)], FUSED_PRIOR)
    assert found == {"/data/003.wav": 50.0}


def test_notes_name_the_first_five() -> None:
    notes = outlying_notes({f"/data/{number}.wav": 50.0 - number for number in range(7)}, Path("/data"))
    assert len(notes) == 6
    assert notes[0].startswith("0.wav scores 50 times as high as the others: leave it out")
    assert notes[-1] == "2 more recordings are unlike the others"


def test_fit_names_a_recording_of_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "fan", recordings(0, seconds=140.0, n=10))
    (stray,) = recordings(1, seconds=14.0, n=1).values()
    write(tmp_path / "fan", {"normal/2026-11-02T12-00-00.flac": stray})
    recipe = tiny_recipe(tmp_path / "tiny.yaml", base="default")
    assert main(["fit", str(tmp_path / "fan"), "--recipe", str(recipe), "--out", str(tmp_path / "out")]) == 0
    warned = re.findall(r"train: warning: (\S+) scores .* times as high as the others", capsys.readouterr().err)
    assert warned == ["normal/2026-11-02T12-00-00.flac"]
