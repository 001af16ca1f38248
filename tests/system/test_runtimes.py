"""tflite-runtime 2.14 with NumPy 1.26 against LiteRT with NumPy 2: equal frames, scores and events."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import need
from tests.replay.command import ROOT, Ran, monitor

SAVE_FRAMES = """
import sys
import numpy, soundfile
from monitor.bundle import load_bundle  # sets what NumPy reads when it is loaded
from monitor.bundle.interpreter import RUNTIME
from monitor.block import Block
from monitor.scoring.frames import stream_frames
from monitor.scoring.front_end import LogMelSpec
samples = soundfile.read("demo/fan-bearing.flac", dtype="float32")[0]
all_frames = []
for n_mels, n_fft, log in ((64, 1024, "max"), (64, 2048, "max"), (128, 2048, "add"), (128, 4096, "max"), (40, 512, "max")):
    spec = LogMelSpec(sample_rate_hz=16000, n_fft=n_fft, hop_length=512, n_mels=n_mels, fmax_hz=8000.0, log=log)
    all_frames += [numpy.concatenate(list(stream_frames([Block(0, samples)], spec, tick_frames=32)))]
numpy.savez(sys.argv[1], *all_frames)
print(RUNTIME, numpy.__version__)
"""
FRAME_TOLERANCE_DB = 1e-4  # processors without AVX-512 round a few values differently


@pytest.fixture(scope="session")
def other_python() -> str:
    python = os.environ.get("TFLITE_PYTHON", "")
    need(Path(python).is_file(), "an environment with tflite-runtime (scripts/test makes it)")
    return python


@pytest.fixture(scope="session")
def runs(other_python: str, demo_fault: Path, demo_normal: Path, demo_bundle: Path) -> tuple[Ran, Ran]:
    arguments = ("--replay", demo_fault, demo_normal, "--model", demo_bundle, "--scores")
    return monitor(*arguments), monitor(*arguments, python=other_python)


def test_frames_are_equal(other_python: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    ours, theirs = (
        subprocess.run([python, "-c", SAVE_FRAMES, file], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
        for python, file in ((sys.executable, tmp_path / "ours.npz"), (other_python, tmp_path / "theirs.npz"))
    )
    assert (ours[0], theirs[0]) == ("ai-edge-litert", "tflite-runtime")
    assert ours[1].startswith("2.")
    assert theirs[1].startswith("1.26.")
    with np.load(tmp_path / "ours.npz") as one, np.load(tmp_path / "theirs.npz") as other:
        off_db = max(float(np.abs(one[name] - other[name]).max()) for name in one.files)
    record_property("figures", f"largest difference {off_db:.1g} dB")
    assert off_db <= FRAME_TOLERANCE_DB


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
