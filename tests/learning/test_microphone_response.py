"""The offset of a microphone: its parts, the limits of what is attributed to it, and its words."""

import numpy as np
import pytest

from monitor.arrays import F64
from monitor.learning.microphone_response import Offset, compare

N = 32
LIMITS_HZ = np.linspace(0.0, 8000.0, N + 1)
ZERO = np.zeros(N)


def offset(gain_db: float = 0.0, smooth: dict[int, float] | None = None, rough: dict[int, float] | None = None) -> Offset:
    smooth_db, rough_db = ZERO.copy(), ZERO.copy()
    for values, changes in ((smooth_db, smooth), (rough_db, rough)):
        for band, value in (changes or {}).items():
            values[band] = value
    return Offset(gain_db, smooth_db, rough_db)


def cosine(order: int, db: float) -> F64:
    return np.asarray(db * np.cos(np.pi * order * (np.arange(N) + 0.5) / N))


def test_an_offset_is_split_into_gain_six_smooth_cosines_and_a_rest() -> None:
    mean = np.linspace(-50.0, -70.0, N)
    found = compare(np.array([mean + 4.0 + cosine(5, 3.0)] * 3), mean)
    assert found.gain_db == pytest.approx(4.0, abs=0.3)
    np.testing.assert_allclose(found.gain_db + found.smooth_db, 4.0 + cosine(5, 3.0), atol=1e-9)
    np.testing.assert_allclose(found.rough_db, 0.0, atol=1e-9)
    rougher = compare(np.array([mean + 4.0 + cosine(6, 3.0)]), mean)
    np.testing.assert_allclose(rougher.smooth_db + rougher.gain_db, 4.0, atol=1e-9)
    np.testing.assert_allclose(rougher.rough_db, cosine(6, 3.0), atol=1e-9)


def test_the_median_segment_and_the_median_band_set_the_gain() -> None:
    frames = np.array([ZERO + 1.0, ZERO + 2.0, ZERO + 90.0])
    assert compare(frames, ZERO).gain_db == 2.0
    few = np.array([ZERO[:3] + np.array([0.0, 5.0, 90.0])])
    assert compare(few, ZERO[:3]).gain_db == 5.0


@pytest.mark.parametrize(
    ("found", "is_as_trained"),
    [
        (offset(1.5), True),
        (offset(-1.5), True),
        (offset(1.6), False),
        (offset(-1.6), False),
        (offset(smooth={5: 2.0}), True),
        (offset(smooth={5: -2.1}), False),
        (offset(rough={0: -2.0}), True),
        (offset(rough={0: -2.1}), False),
        (offset(rough={N - 1: -2.1}), False),
        (offset(rough={0: 2.1, N - 2: -9.0}), True),
    ],
)
def test_a_small_offset_needs_no_correction(found: Offset, is_as_trained: bool) -> None:
    assert found.is_as_trained == is_as_trained
    assert (found.response_db() is None) == is_as_trained


def test_one_decibel_of_the_rest_is_corrected_and_twelve_of_losses_at_the_ends() -> None:
    found = offset(3.0, {2: 1.0}, {0: -20.0, 1: -20.0, 3: 20.0, 4: 0.7, N - 1: -11.0})
    response = found.response_db()
    assert response is not None
    assert response[[0, 1, 2, 3, 4, 5, N - 1]].tolist() == pytest.approx([-9.0, 2.0, 4.0, 4.0, 3.7, 3.0, -8.0])
    assert response.dtype == np.float32
    whole = found.response_db(whole=True)
    assert whole is not None
    assert whole[[0, 1, 2, 3, 4, 5, N - 1]].tolist() == pytest.approx([-17.0, -17.0, 4.0, 23.0, 3.7, 3.0, -8.0])
    assert offset().response_db(whole=True) is not None


@pytest.mark.parametrize(
    ("found", "violation"),
    [
        (offset(15.0, {3: -12.0}), None),
        (offset(-15.1), "its level is 15.1 dB off (at most 15 dB are explained by another microphone)"),
        (offset(15.1, {3: 20.0}), "its level is 15.1 dB off (at most 15 dB are explained by another microphone)"),
        (offset(0.0, {3: -12.1}), "its response is 12.1 dB off (at most 12 dB are explained by another microphone)"),
        (offset(0.0, None, {3: 50.0}), None),
    ],
)
def test_an_offset_that_no_microphone_explains_is_named(found: Offset, violation: str | None) -> None:
    assert found.violation == violation


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (offset(-0.04), "level +0.0 dB: microphone and gain have not changed since training"),
        (offset(1.46), "level +1.5 dB: microphone and gain have not changed since training"),
        (offset(-3.0), "level -3.0 dB: microphone or gain seems to have changed since training"),
        (offset(0.0, None, {0: -3.0}), "level +0.0 dB: microphone or gain seems to have changed since training"),
        (
            offset(2.0, {5: 3.0, 11: -4.0}),
            "level +2.0 dB, and -4.0 dB more at 2.9 kHz: the microphone or its position seems to have changed since training",
        ),
    ],
)
def test_an_offset_is_described(found: Offset, words: str) -> None:
    assert found.in_words(LIMITS_HZ) == words
