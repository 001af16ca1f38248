"""Evaluation spread over processes, and the hashes by which it knows the clips that a bundle was trained on."""

import os
from pathlib import Path

import pytest
import soundfile

from tests.signals import hum
from train.datasets import read_dataset
from train.datasets.clip import hash_of, hashes_of
from train.evaluation.evaluate import evaluate


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name, seed, n in (("normal/a", 0, 200_000), ("normal/b", 1, 90_000), ("anomaly/c", 2, 200_000), ("normal/short", 3, 500)):
        path = tmp_path / "set" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, hum(seed, n), 16000)
    (tmp_path / "set/normal/broken.wav").write_bytes(b"RIFF")
    return tmp_path / "set"


def test_processes_side_by_side_give_the_same_scores(demo_bundle: Path, clips: Path) -> None:
    alone, together = (evaluate(demo_bundle, read_dataset(clips), workers=n).scores for n in (1, 2))
    assert alone == together
    assert [one.name for one in alone if one.problem] == ["normal/broken.wav", "normal/short.wav"]
    assert sum(one.score is not None for one in alone) == 3


def test_a_hash_follows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    before = hash_of(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 0))
    assert hash_of(path) != before
    assert hashes_of([path, tmp_path / "missing.wav"]) == [hash_of(path), ""]
