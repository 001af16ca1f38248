"""tflite-runtime 2.14 with NumPy 1.26 against LiteRT with NumPy 2: the same frames, scores and events."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import need
from tests.replay.command import ROOT, Ran, monitor

HASH_FRAMES = """
import hashlib, sys
import numpy, soundfile
from pathlib import Path
from monitor.bundle import load_bundle
from monitor.bundle.interpreter import RUNTIME
from monitor.block import Block
from monitor.scoring.frames import stream_frames
from monitor.scoring.front_end import LogMelSpec
digest = hashlib.sha256()
samples = soundfile.read("demo/fan-bearing.flac", dtype="float32")[0]
for n_mels, n_fft, log in ((64, 1024, "max"), (64, 2048, "max"), (128, 2048, "add"), (128, 4096, "max"), (40, 512, "max")):
    spec = LogMelSpec(sample_rate_hz=16000, n_fft=n_fft, hop_length=512, n_mels=n_mels, fmax_hz=8000.0, log=log)
    for frames in stream_frames([Block(0, samples)], spec, tick_frames=32):
        digest.update(frames.tobytes())
print(RUNTIME, numpy.__version__, digest.hexdigest())
"""


@pytest.fixture(scope="session")
def other_python() -> str:
    python = os.environ.get("TFLITE_PYTHON", "")
    need(Path(python).is_file(), "an environment with tflite-runtime (scripts/test makes it)")
    return python


@pytest.fixture(scope="session")
def runs(other_python: str, demo_fault: Path, demo_normal: Path, demo_bundle: Path) -> tuple[Ran, Ran]:
    arguments = ("--replay", demo_fault, demo_normal, "--model", demo_bundle, "--scores")
    return monitor(*arguments), monitor(*arguments, python=other_python)


def test_frames_are_the_same_to_the_bit(other_python: str) -> None:
    ours, theirs = (
        subprocess.run([python, "-c", HASH_FRAMES], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
        for python in (sys.executable, other_python)
    )
    assert (ours[0], theirs[0]) == ("ai-edge-litert", "tflite-runtime")
    assert ours[1].startswith("2.")
    assert theirs[1].startswith("1.26.")
    assert ours[2] == theirs[2]


def test_scores_agree_within_a_tenth_of_a_percent(runs: tuple[Ran, Ran]) -> None:
    ours, theirs = (ran.segments for ran in runs)
    assert len(ours) == len(theirs) > 150
    for one, other in zip(ours, theirs, strict=True):
        if one["score"] is None:
            assert other["score"] is None
        else:
            assert other["score"] == pytest.approx(one["score"], rel=1e-3)


def test_events_are_the_same(runs: tuple[Ran, Ran]) -> None:
    ours, theirs = (ran.events for ran in runs)
    same = ("event_type", "id", "seq", "ts", "onset_ts", "machine", "bundle", "bands", "summary", "duration_s", "end_reason")
    assert [[event[key] for key in same] for event in ours] == [[event[key] for key in same] for event in theirs]
    assert [file["verdict"] for file in runs[0].files] == [file["verdict"] for file in runs[1].files]
