"""What the commands have in common."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from tests.signals import hum
from train.cli import calibrate, evaluate, fit, import_model, inspect
from train.cli.main import main as train

NEEDED = {
    "fit": ["--recipe", "mimii-mel", "--out", "x"],
    "evaluate": ["data", "--out", "x"],
    "calibrate": ["--on", "data"],
    "inspect": [],
    "import-model": ["--recipe", "mimii-mel", "--out", "x", "--calibrate-on", "data"],
}


@pytest.mark.parametrize("command", sorted(NEEDED))
def test_every_command_that_reads_a_data_set_takes_the_same_options(command: str) -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for module in (calibrate, evaluate, fit, import_model, inspect):
        module.add(commands)
    parsed = parser.parse_args([command, "one", *NEEDED[command], "--layout", "plain", "--channel", "2", "--split", "lists"])
    assert (parsed.layout, parsed.channel, parsed.split) == ("plain", 2, Path("lists"))


@pytest.mark.parametrize(("usable", "unbuffered", "status"), [(True, "", 0), (True, "1", 0), (False, "", 1)])
def test_a_reader_that_leaves_is_no_failure_by_itself(usable: bool, unbuffered: str, status: int, tmp_path: Path) -> None:
    folder = tmp_path / ("normal" if usable else "anomaly")
    folder.mkdir()
    for i in range(2):
        soundfile.write(folder / f"{i}.wav", hum(i, 16_000 * 25), 16_000)
    command = [sys.executable, "-m", "train.cli.main", "inspect", str(tmp_path)]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
        assert process.wait() == status
    assert "pipe" not in told.lower()
    assert len(told.splitlines()) == status


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_is_nobody_who_listens(closed: int, tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    for i in range(2):
        soundfile.write(tmp_path / f"normal/{i}.wav", hum(i, 16_000 * 25), 16_000)
    command = [sys.executable, "-m", "train.cli.main", "inspect", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.close(closed))
    assert (done.returncode, done.stderr) == (0, "")
    assert ("next: train fit" in done.stdout) == (closed == 2)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["inspct", "x"], "did you mean inspect?"),
        (["inspect", "x", "--chanel", "2"], "did you mean --channel?"),
        (["fit", "x", "--recpie", "default", "--out", "y"], "did you mean --recipe?"),
        (["fit", "x", "--recpie=default", "--out", "y"], "did you mean --recipe?"),
        (["--vresion"], "did you mean --version?"),
        (["inspect", "x", "--replya"], "unrecognized argument --replya; see train inspect --help"),
    ],
)
def test_a_typing_error_is_answered_with_the_nearest_word(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        train(words)
    assert error.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(hint)


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        ("tensorflow", ["fit", "SET", "--recipe", "default", "--out", "OUT"]),
        ("scipy", ["synth", "OUT/a.wav"]),
        ("matplotlib", ["evaluate", "BUNDLE", "SET", "--out", "OUT"]),
    ],
)
def test_without_its_extra_it_names_the_command_that_installs_it(
    absent: str, words: list[str], demo_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "set/normal").mkdir(parents=True)
    for i in range(4):
        soundfile.write(tmp_path / f"set/normal/{i}.wav", hum(i, 16_000 * 12), 16_000)
    code = f"""
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from train.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
    places = {"SET": tmp_path / "set", "OUT": tmp_path / "out", "OUT/a.wav": tmp_path / "a.wav", "BUNDLE": demo_bundle}
    command = [sys.executable, "-c", code, *(str(places.get(word, word)) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"train: error: {absent} is not installed for ")
    assert line.endswith("pip install 'stethos[train]'")
