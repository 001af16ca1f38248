"""Somebody else's numbers: MLPerf Tiny's features, models and scores (Banbury et al., 2021)."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.metrics import roc_auc_score

from benchmarks.sounds.frame_ticks import frame_ticks
from monitor.arrays import F32
from monitor.bundle import load_bundle
from monitor.scoring.front_end import LogMelSpec
from monitor.scoring.scorer import Scorer
from tests.golden.test_librosa import our_frames
from tests.replay.command import monitor
from train.cli.main import main as train

FIRST, LAST = 50, 249  # the published frames, in the count of a centred front end
SPEC = LogMelSpec(
    sample_rate_hz=16000, n_fft=1024, hop_length=512, n_mels=128, fmax_hz=8000.0, log="add", floor=2.220446049250313e-16
)
CLIP_SCORE = {"fp32": 9.7071, "int8": 10.265}
POOLED_AUC = {"fp32": 0.903, "int8": 0.860}


@pytest.fixture(scope="session")
def toycar(real_data: Path) -> Path:
    return real_data / "toycar-ad01"


@pytest.fixture(scope="session")
def bundles(toycar: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    found = {}
    for kind in CLIP_SCORE:
        found[kind] = folder / f"mlperf-{kind}"
        model = str(toycar / "models" / f"ad01_{kind}.tflite")
        assert train(["import-model", model, "--recipe", "dcase", "--out", str(found[kind]), "--threshold", "15"]) == 0
    return found


def published(path: Path) -> F32:
    return np.fromfile(path, "<f4").reshape(200, 128)


@pytest.mark.parametrize("clip", ["normal_id_01_00000000", "anomaly_id_01_00000000"])
def test_frames_equal_the_published_features(clip: str, toycar: Path) -> None:
    samples = soundfile.read(toycar / "clips" / f"{clip}.wav", dtype="float32")[0]
    frames = our_frames(samples, SPEC)[FIRST - 1 : LAST]  # without centring a frame comes one index earlier
    assert np.abs(frames - published(toycar / "clips" / f"{clip}_hist_librosa.bin")).max() < 1e-4


@pytest.mark.parametrize("kind", CLIP_SCORE)
def test_the_wav_gives_the_published_clips_score(kind: str, bundles: dict[str, Path], toycar: Path, tmp_path: Path) -> None:
    samples = soundfile.read(toycar / "clips" / "normal_id_01_00000000.wav", dtype="int16")[0]
    cut = tmp_path / "cut.wav"
    soundfile.write(cut, samples[(FIRST - 1) * 512 : (LAST - 1) * 512 + 1024], 16000)
    (file,) = monitor("--replay", cut, "--model", bundles[kind]).files
    assert file["score"] == pytest.approx(CLIP_SCORE[kind], abs=0.002)


def push_frames(scorer: Scorer, frames: F32) -> None:
    for tick in frame_ticks(frames, tick_frames=scorer.spec.tick_frames):
        scorer.score_tick(tick)


@pytest.mark.parametrize("kind", CLIP_SCORE)
def test_the_features_give_the_published_clips_score(kind: str, bundles: dict[str, Path], toycar: Path) -> None:
    scorer = load_bundle(bundles[kind]).scorer()
    push_frames(scorer, published(toycar / "clips" / "normal_id_01_00000000_hist_librosa.bin"))
    assert scorer.file_score() == pytest.approx(CLIP_SCORE[kind], abs=0.002)


@pytest.mark.parametrize("kind", POOLED_AUC)
def test_the_pooled_auc_is_the_benchmarks(kind: str, bundles: dict[str, Path], toycar: Path) -> None:
    scorer = load_bundle(bundles[kind]).scorer()
    with (toycar / "features" / "y_labels.csv").open() as file:
        rows = [row for row in csv.reader(file) if row and row[0].endswith(".bin")]
    labels, scores = [], []
    for name, _classes, label, *_ in rows:
        scorer.reset()
        push_frames(scorer, published(toycar / "features" / name))
        labels.append(int(label))
        scores.append(scorer.file_score())
    assert len(labels) == 248
    assert roc_auc_score(labels, scores) == pytest.approx(POOLED_AUC[kind], abs=0.002)
