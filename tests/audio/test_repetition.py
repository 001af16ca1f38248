"""Sound that repeats bit for bit is marked, whatever blocks it arrives in. Sound that merely resembles itself is not."""

from collections.abc import Sequence

import numpy as np
import pytest

from monitor.arrays import F32
from monitor.audio.repetition import MAX_PERIOD_S, N_REPEATS, STEP_S, RepetitionDetector
from tests.signals import hum, noise

RATE_HZ = 16_000


def marks(sound: F32, *, looks_ahead: bool = False, sizes: Sequence[int] = (1600,), rate_hz: int = RATE_HZ) -> F32:
    """1 for each sample that is marked, else 0. Checks that the samples are returned unchanged."""
    detector = RepetitionDetector(rate_hz=rate_hz, looks_ahead=looks_ahead)
    parts, at, number = [], 0, 0
    while at < len(sound):
        size = sizes[number % len(sizes)]
        parts += detector.push(sound[at : at + size])
        at, number = at + size, number + 1
    parts += detector.flush()
    np.testing.assert_array_equal(np.concatenate([part.samples for part in parts]), sound)
    return np.concatenate([np.full(len(part.samples), part.repeating, np.float32) for part in parts])


def stuck(period: int, n: int) -> F32:
    return np.resize(hum(1, period), n)


@pytest.mark.parametrize("period", [32, 101, 1024, 3200, 8000, 12_345, 16_000, round(MAX_PERIOD_S * RATE_HZ)])
def test_a_stuck_buffer_is_marked_after_some_periods(period: int) -> None:
    marked = marks(np.concatenate((hum(2, 5 * RATE_HZ), stuck(period, 20 * RATE_HZ))))
    assert not marked[: 5 * RATE_HZ].any()
    first = int(np.argmax(marked)) - 5 * RATE_HZ
    assert first <= (N_REPEATS + 1) * period + (0.5 + 2 * STEP_S) * RATE_HZ
    assert marked[5 * RATE_HZ + first :].all()


@pytest.mark.parametrize("period", [101, 1024, 3200, 12_345, 16_000, round(MAX_PERIOD_S * RATE_HZ)])
def test_looking_ahead_marks_all_of_it(period: int) -> None:
    marked = marks(np.concatenate((hum(2, 5 * RATE_HZ), stuck(period, 20 * RATE_HZ), hum(3, 5 * RATE_HZ))), looks_ahead=True)
    step = round(STEP_S * RATE_HZ)
    assert not marked[: 5 * RATE_HZ - step].any()
    assert marked[5 * RATE_HZ + step : 25 * RATE_HZ - step].all()
    assert not marked[25 * RATE_HZ + step :].any()


@pytest.mark.parametrize("looks_ahead", [False, True])
@pytest.mark.parametrize("sizes", [(1,), (7, 4000, 333), (100_000,)])
def test_the_marks_do_not_depend_on_blocks(sizes: Sequence[int], looks_ahead: bool) -> None:
    sound = np.concatenate((hum(2, RATE_HZ), stuck(777, 3 * RATE_HZ), hum(3, RATE_HZ), stuck(2222, 2 * RATE_HZ)))
    np.testing.assert_array_equal(
        marks(sound, looks_ahead=looks_ahead, sizes=sizes), marks(sound, looks_ahead=looks_ahead, sizes=(1600,))
    )


def test_it_ends_with_the_repetition() -> None:
    marked = marks(np.concatenate((stuck(1000, 5 * RATE_HZ), hum(3, 5 * RATE_HZ))))
    assert marked[4 * RATE_HZ]
    assert not marked[round((5 + STEP_S) * RATE_HZ) :].any()


def quiet(n: int) -> F32:
    """A converter whose last bit hardly moves."""
    return np.asarray(np.round(noise(4, n, level=0.4)) / 32768, np.float32)


SOUNDS = {
    "noise": noise(1, 20 * RATE_HZ),
    "hum": hum(1, 20 * RATE_HZ),
    "quantised tone with the converter's noise": np.round(hum(1, 20 * RATE_HZ) * 128).astype(np.float32) / np.float32(128),
    "last bit": quiet(20 * RATE_HZ),
    "silence": np.zeros(20 * RATE_HZ, np.float32),
    "constant": np.full(20 * RATE_HZ, 0.25, np.float32),
    "one repetition": np.concatenate((hum(1, RATE_HZ), hum(1, RATE_HZ), hum(2, 5 * RATE_HZ))),
    "a loop longer than any buffer": np.tile(hum(1, 8 * RATE_HZ), 4),
    "a stuck buffer with a sample that differs": np.concatenate(
        [np.concatenate((hum(1, 3199), noise(seed, 1))) for seed in range(80)]
    ),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_other_sound_is_not_marked(name: str) -> None:
    for looks_ahead in (False, True):
        assert not marks(SOUNDS[name], looks_ahead=looks_ahead).any()


def test_a_tone_of_a_generator_is_marked() -> None:
    tone = np.sin(2 * np.pi * np.arange(RATE_HZ // 100) / (RATE_HZ // 100)).astype(np.float32)
    assert marks(np.tile(tone, 1000))[RATE_HZ:].all()
