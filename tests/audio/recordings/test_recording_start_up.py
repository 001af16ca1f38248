"""The quiet moment with which a recorder starts is no sound of the machine: a recording scores as if it were not there."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from monitor.arrays import F32
from monitor.audio.recording import Recording
from monitor.bundle import load_bundle
from monitor.scoring.scorer import score_stream
from tests.signals import hum, noise

RATE_HZ = 16000
MS = RATE_HZ // 1000
QUIET = 10.0 ** (-65 / 20)
LOUDER = np.float32(3.0)  # the demo is recorded 29 dB above that


def written(path: Path, samples: F32, *, rate_hz: int = RATE_HZ) -> Recording:
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    return Recording(path, sample_rate_hz=RATE_HZ)


def file_score(bundle: Path, recording: Recording) -> float:
    scorer = load_bundle(bundle).scorer()
    score_stream(scorer, recording.blocks())
    score = scorer.file_score()
    assert score is not None
    return score


def samples_of(recording: Recording) -> F32:
    return np.concatenate([block.samples for block in recording.blocks()])


@pytest.mark.parametrize("seconds", [1.0, 3.0, 10.0])
def test_start_up_noise_changes_a_score_by_less_than_a_hundredth(
    seconds: float, demo_normal: Path, demo_bundle: Path, tmp_path: Path
) -> None:
    sound = LOUDER * soundfile.read(demo_normal, dtype="float32")[0][RATE_HZ:][: round(seconds * RATE_HZ)]
    clean = written(tmp_path / "clean.wav", sound)
    started = written(tmp_path / "started.wav", np.concatenate((noise(1, 60 * MS, level=QUIET), sound)))
    assert file_score(demo_bundle, started) == pytest.approx(file_score(demo_bundle, clean), rel=0.01)
    assert np.array_equal(samples_of(started), samples_of(clean))  # 60 ms are whole steps
    blocks = [next(iter(recording.blocks())).start for recording in (clean, started)]
    assert blocks == [0, 60 * MS]  # and time counts from the beginning of the file


def test_left_in_it_would_raise_the_score_of_a_short_recording(demo_normal: Path, demo_bundle: Path, tmp_path: Path) -> None:
    """By a start that the recording does not skip, because only part of it is heard."""
    sound = soundfile.read(demo_normal, dtype="float32")[0][RATE_HZ:][:RATE_HZ]
    parts = [np.concatenate((start, sound)) for start in (noise(1, 60 * MS, level=QUIET), sound[: 60 * MS])]
    heard = []
    for number, part in enumerate(parts):
        recording = written(tmp_path / f"{number}.wav", np.concatenate((sound[:MS], part)))
        scorer = load_bundle(demo_bundle).scorer()
        score_stream(scorer, recording.blocks(start_s=0.001))
        heard.append(scorer.file_score() or 0.0)
    assert heard[0] > 1.5 * heard[1]


def test_at_another_rate_the_stream_begins_as_much_later(tmp_path: Path) -> None:
    samples = np.concatenate((noise(1, 48 * 60, level=QUIET), hum(0, 48_000 * 2, rate_hz=48_000)))
    recording = written(tmp_path / "a.wav", samples, rate_hz=48_000)
    blocks = list(recording.blocks())
    assert blocks[0].start == 60 * MS
    assert sum(len(block.samples) for block in blocks) == pytest.approx(2 * RATE_HZ, abs=2)


@pytest.mark.parametrize(
    ("quiet_ms", "level_db"),
    [(60, -45.0), (300, -65.0)],
    ids=["a-pause-that-is-no-30-dB-quieter", "a-pause-that-is-longer-than-a-recorders"],
)
def test_what_is_no_recorders_start_up_is_kept(quiet_ms: int, level_db: float, tmp_path: Path) -> None:
    samples = np.concatenate((noise(1, quiet_ms * MS, level=10.0 ** (level_db / 20)), hum(0, 2 * RATE_HZ)))
    assert len(samples_of(written(tmp_path / "a.wav", samples))) == len(samples)


def test_sound_that_begins_at_once_is_kept_whole(tmp_path: Path) -> None:
    for n in (1, 100, 159, 160, RATE_HZ // 2, 3 * RATE_HZ):
        samples = hum(0, n)
        assert np.array_equal(samples_of(written(tmp_path / "a.wav", samples)), samples)


def test_silence_is_kept_whole(tmp_path: Path) -> None:
    for level in (0.0, QUIET):
        samples = noise(0, 2 * RATE_HZ, level=level)
        assert np.array_equal(samples_of(written(tmp_path / "a.wav", samples)), samples)
