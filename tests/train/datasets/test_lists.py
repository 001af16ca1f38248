"""A split is saved as lists and loaded again."""

import os
from pathlib import Path

import pytest

from monitor.errors import SourceError
from tests.train.datasets.trees import make
from train.cli.main import main as train
from train.datasets import (
    Split,
    load_split,
    read_dataset,
    save_split,
    split_dataset,
)


def test_a_split_is_saved_and_loaded_again(tmp_path: Path) -> None:
    names = [*(f"normal/ä {i}.wav" for i in range(10)), "anomaly/x.wav"]
    dataset = read_dataset(make(tmp_path / "set", names))
    split = split_dataset(dataset, held_out=0.2, seed=0)
    save_split(split, tmp_path / "lists", dataset.root)
    lines = {path.name: path.read_text("utf-8").splitlines() for path in (tmp_path / "lists").iterdir()}
    assert sorted(lines) == ["held_out.txt", "test.txt", "train.txt"]
    assert sorted(line for some in lines.values() for line in some) == sorted(names)
    assert load_split(tmp_path / "lists", dataset) == split
    (tmp_path / "set").rename(tmp_path / "moved")
    again = load_split(tmp_path / "lists", read_dataset(tmp_path / "moved"))
    assert [clip.path.name for clip in again.train] == [clip.path.name for clip in split.train]


def test_names_that_are_no_text_or_no_line_are_heard_listed_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [b"l\xfcfter.wav", b"a\nb.wav", b"\r c.wav", b'"q".wav', b"x-001.wav", "\u2028.wav".encode()]
    root = make(tmp_path / "set", [f"normal/{i}.wav" for i in range(len(names))], seconds=12)
    for i, name in enumerate(names):
        (root / f"normal/{i}.wav").rename(root / "normal" / os.fsdecode(name))
    dataset = read_dataset(root)
    assert dataset.layout == "plain"
    assert {os.fsencode(clip.path.name) for clip in dataset.clips} == set(names)
    split = split_dataset(dataset, held_out=0.5, seed=0)
    save_split(split, tmp_path / "lists", dataset.root)
    assert load_split(tmp_path / "lists", dataset) == split
    assert train(["inspect", str(root)]) == 0
    assert "checked     no file is unreadable, " in capsys.readouterr().out


def test_an_error_has_its_lines_whatever_a_file_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, ["normal/a.wav", "a\nb.wav"])
    assert train(["inspect", str(tmp_path)]) == 1
    first, *hints = capsys.readouterr().err.splitlines()
    assert r"1 do not (a\nb.wav, …)" in first
    assert len(hints) == 2


def test_a_split_in_time_is_saved_and_loaded_again(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path / "set", ["normal/all.wav"]))
    split = split_dataset(dataset, held_out=0.2, seed=0)
    save_split(split, tmp_path / "lists", dataset.root)
    assert (tmp_path / "lists/cut.txt").read_text() == "0.8\n"
    assert load_split(tmp_path / "lists", dataset) == split
    assert split.in_time
    (tmp_path / "lists/cut.txt").write_text("four fifths")
    with pytest.raises(SourceError, match=r"cut\.txt: must contain one number above 0 and below 1"):
        load_split(tmp_path / "lists", dataset)
    (tmp_path / "lists/cut.txt").unlink()
    with pytest.raises(SourceError, match="must be in train or held out, got both"):
        load_split(tmp_path / "lists", dataset)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.txt", "normal/0.wav\nnormal/9.wav\n", "train.txt, line 2: must name a sound file of"),
        ("train.txt", "anomaly/x.wav\n", "x.wav: train and held out must hold normal sound only, got an anomaly"),
        ("test.txt", "normal/1.wav\n", "1.wav: must not be tested with and be in train or held out"),
        ("held_out.txt", "normal/0.wav\n", "0.wav: must be in train or held out, got both"),
        ("test.txt", None, "test.txt: must be a list of sound files: No such file or directory"),
    ],
)
def test_lists_that_cannot_be_are_named(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path / "set", ["normal/0.wav", "normal/1.wav", "normal/2.wav", "anomaly/x.wav"]))
    zero, one, two = dataset.labelled("normal")
    save_split(Split(train=(zero, one), held_out=(two,), test=dataset.labelled("anomaly")), tmp_path / "lists", dataset.root)
    if text is None:
        (tmp_path / "lists" / name).unlink()
    else:
        (tmp_path / "lists" / name).write_text(text)
    with pytest.raises(SourceError) as error:
        load_split(tmp_path / "lists", dataset)
    assert message in str(error.value)
