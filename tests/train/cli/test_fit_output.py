"""`train fit` as a person sees it: three lines, warnings that matter, and nothing of the framework."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import yaml

from train.cli.main import main as train
from train.datasets.sessions.order import UNKNOWN_SESSIONS
from train.recipes.recipe import RECIPES

PROMISE = (
    "aims at about one false warning a day and one false alarm a month at most, "
    "as long as the machine sounds as it was recorded (not verified: too little sound)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of fifteen recordings and a fault, and a quick recipe."""
    folder = tmp_path_factory.mktemp("person")
    assert train(["synth", str(folder / "my-fan"), "--recordings", "15", "--seconds", "12"]) == 0
    assert train(["synth", str(folder / "my-fan"), "--recordings", "1", "--seconds", "12", "--fault", "rubbing"]) == 0
    recipe = yaml.safe_load((RECIPES / "default.yaml").read_text())
    recipe["training"]["epochs"] = 2
    (folder / "quick.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def command(*options: str) -> list[str]:
    fit = ["fit", "my-fan", "--recipe", "quick.yaml", "--out", "models/my-fan", *options]
    return [sys.executable, "-m", "train.cli.main", *fit]


def test_it_ends_in_three_lines_and_prints_nothing_else_but_warnings(folder: Path) -> None:
    done = subprocess.run(command(), capture_output=True, text=True, check=False, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "learned: models/my-fan from 12 recordings, 2.4 min of normal sound; 3 more are kept to test with\n"
        f"{PROMISE}\n"
        "next: train evaluate models/my-fan my-fan --out reports/my-fan\n",
        f"train: warning: {UNKNOWN_SESSIONS}\n",
    )


def test_on_a_terminal_one_line_counts_the_epochs_of_both_networks(folder: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # rows and columns, for the bar
    process = subprocess.Popen(command(), stdout=theirs, stderr=theirs, cwd=folder)
    os.close(theirs)
    told = b""
    try:
        while part := os.read(ours, 4096):
            told += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    *lines, learned, promise, _, rest = told.decode().split("\r\n")
    assert "train:" in learned  # the bar, wiped out
    assert "/4 [" in learned
    assert learned.rpartition("\r")[2].startswith("learned: models/my-fan from 12 recordings")
    assert (promise, rest) == (PROMISE, "")
    assert [line.rpartition("\r")[2] for line in lines] == [f"train: warning: {UNKNOWN_SESSIONS}"]


def test_verbose_adds_every_epoch_and_all_evidence(folder: Path) -> None:
    done = subprocess.run(command("--verbose"), capture_output=True, text=True, check=True, cwd=folder)
    epochs = [line for line in done.stdout.splitlines() if line.startswith("Epoch ")]
    assert epochs == ["Epoch 1/2", "Epoch 2/2"] * 2
    statement, levels, *verdict = done.stdout.splitlines()[-5:]
    assert statement.startswith("The thresholds are based on 12 recordings, ")
    assert levels.startswith("threshold ")
    assert verdict[1] == PROMISE
    assert done.stderr == f"train: warning: {UNKNOWN_SESSIONS}\n"
