"""`train fit` goes on with kept epochs of the very same training only, and says what becomes of them."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from tests.waiting import wait_until
from train.cli.main import main as train
from train.datasets.sessions.order import UNKNOWN_SESSIONS
from train.networks.backup import Backup
from train.recipes.recipe import RECIPES


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of two channels."""
    folder = tmp_path_factory.mktemp("sounds")
    for channel in (1, 2):
        common = ["--recordings", "6", "--seconds", "12", "--seed", str(channel)]
        assert train(["synth", str(folder / f"channel{channel}"), *common]) == 0
    (folder / "set/normal").mkdir(parents=True)
    for one in sorted((folder / "channel1/normal").glob("*.flac")):
        both = [soundfile.read(folder / f"channel{channel}/normal" / one.name)[0] for channel in (1, 2)]
        soundfile.write(folder / "set/normal" / one.name, np.stack(both, axis=1), 16000)
    return folder / "set"


class Fit:
    """The same `train fit` again and again, interrupted as soon as an epoch is kept."""

    def __init__(self, sounds: Path, folder: Path) -> None:
        self._epochs = folder / ".own-training/epoch.npz"
        self.recipe = yaml.safe_load((RECIPES / "mimii-mel.yaml").read_text())
        self.recipe["training"]["epochs"] = 1000
        self._path = folder / "own.yaml"
        self._command = [
            "fit",
            str(sounds),
            "--recipe",
            str(self._path),
            "--out",
            str(folder / "own"),
            "--channel",
            "1",
            "--verbose",
        ]

    def interrupted(self, *options: str) -> int:
        self._path.write_text(yaml.safe_dump(self.recipe))
        before, done = self._kept(), threading.Event()

        def interrupt() -> None:
            wait_until(lambda: self._kept() not in (None, before), what="an epoch")
            while not done.wait(0.0):
                os.kill(os.getpid(), signal.SIGINT)
                done.wait(5.0)  # an interruption within a destructor is lost

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            return train([*self._command, *options])
        finally:
            done.set()
            thread.join()

    def _kept(self) -> int | None:
        try:
            return self._epochs.stat().st_mtime_ns
        except FileNotFoundError:
            return None


@pytest.fixture
def fit(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fit:
    made = Fit(sounds, tmp_path)
    assert made.interrupted() == 130
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train:")]
    assert told == [
        f"train: warning: {UNKNOWN_SESSIONS}",
        "train: interrupted; finished epochs are saved; run the same command with --resume to continue",
    ]
    return made


@pytest.mark.parametrize(
    ("change", "options", "differs"),
    [
        ({}, ["--channel", "2"], "sound"),
        ({}, ["--seed", "7"], "seed, sound"),
        ({"training": {"learning_rate": 0.01}, "gain_db": 1.0}, [], "gain_db, training.learning_rate"),
    ],
)
def test_other_epochs_are_dropped_and_it_is_said_why(
    change: dict[str, object], options: list[str], differs: str, fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in change.items():
        fit.recipe[key] = fit.recipe[key] | value if isinstance(value, dict) else value
    assert fit.interrupted("--resume", *options) == 130
    told, error = capsys.readouterr()
    assert f"discarding the saved epochs of an unfinished training: they were trained with different {differs}\n" in error
    assert "Epoch 1/1000" in told


def test_another_split_is_another_training(sounds: Path, tmp_path: Path, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    names = [path.relative_to(sounds).as_posix() for path in sorted((sounds / "normal").iterdir())]
    for part, some in (("train", names[2:]), ("held_out", names[:2]), ("test", [])):
        (tmp_path / f"{part}.txt").write_text("".join(f"{name}\n" for name in some))
    assert fit.interrupted("--resume", "--split", str(tmp_path)) == 130
    assert "they were trained with different sound" in capsys.readouterr().err


def test_what_does_not_touch_the_weights_keeps_them(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit.recipe |= {"description": "better words", "segment_s": 8.0, "calibration": {"k": 3.0}}
    assert fit.interrupted("--resume", "--sigma", "5") == 130
    told, error = capsys.readouterr()
    assert "Epoch 1/1000" not in told
    assert "/1000" in told
    assert "dropped" not in error


def test_without_resume_they_are_dropped_and_it_is_said(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit.interrupted() == 130
    told, error = capsys.readouterr()
    assert "discarding the saved epochs of an unfinished training: --resume was not given" in error
    assert "Epoch 1/1000" in told


def test_an_interruption_before_the_first_epoch_promises_nothing(tmp_path: Path) -> None:
    backup = Backup(tmp_path / ".own-training")
    assert backup.prepare({"seed": 1}, resume=True) == "there are no saved epochs to resume; training starts from the beginning"
    with pytest.raises(KeyboardInterrupt, match=r"^$"), backup.announced():
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_epochs_of_who_knows_what_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "epoch.npz").touch()
    (tmp_path / "of.json").write_text("cut sho")
    backup = Backup(tmp_path)
    assert backup.prepare({}, resume=True) == "discarding the saved epochs of an unfinished training: their record cannot be read"
    assert not (tmp_path / "epoch.npz").exists()
