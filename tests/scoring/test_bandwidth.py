"""Sound that was resampled from a lower rate is distinguished from a quiet machine."""

import numpy as np
import pytest

from monitor.arrays import F32
from monitor.scoring.bandwidth import empty_bands, is_cut_off
from monitor.scoring.front_end import LogMelSpec

WIDE = LogMelSpec(sample_rate_hz=48000, n_fft=4500, hop_length=1536, n_mels=128, fmax_hz=20000.0)
NARROW = LogMelSpec(sample_rate_hz=16000, n_fft=1024, hop_length=512, n_mels=64, fmax_hz=8000.0)
NOISE_DB = -68.0
UPPER = np.arange(128) >= 90


def machine(at_1_khz_db: float = -20.0) -> F32:
    """A spectrum that falls by 12 dB an octave into a microphone's noise, (128,), dB."""
    hz = WIDE.band_limits_hz()[1:]
    sound_db = at_1_khz_db - 40.0 * np.log10(np.maximum(hz, 200.0) / 1000.0)
    return np.asarray(10.0 * np.log10(10.0 ** (sound_db / 10.0) + 10.0 ** (NOISE_DB / 10.0)), np.float32)


@pytest.mark.parametrize("dust_db", [-90.0, -100.0])
@pytest.mark.parametrize("first", [124, 110, 90, 40])
def test_nothing_but_dust_above_an_edge_is_cut_off(first: int, dust_db: float) -> None:
    heard = machine()
    heard[first:] = dust_db
    assert is_cut_off(heard, machine())


@pytest.mark.parametrize(
    ("name", "heard"),
    [
        ("as expected", machine()),
        ("40 dB quieter, in the microphone's noise", machine(-60.0)),
        ("everything quieter", machine() - 40.0),
        ("noise of a microphone that is 6 dB better", np.where(UPPER, machine() - 6.0, machine())),
        ("louder below", np.where(UPPER, machine(), machine() + 30.0)),
        ("falls by 2 dB a band", machine() - 2.0 * np.maximum(0.0, np.arange(128) - 100.0)),
        ("a hole in the middle", np.where((np.arange(128) > 80) & (np.arange(128) < 90), -100.0, machine())),
    ],
)
def test_a_machine_that_sounds_different_is_not(name: str, heard: F32) -> None:
    assert not is_cut_off(heard, machine()), name


def test_a_whistle_at_the_top_that_stops_is_not() -> None:
    expected = machine()
    expected[125:] += 40.0
    assert not is_cut_off(machine(), expected)


def test_a_bundle_that_learned_from_such_sound_expects_no_more() -> None:
    learned = machine()
    learned[90:] = -100.0
    assert not is_cut_off(learned, learned)


def test_a_rate_is_too_low_where_sound_is_expected_above_half_of_it() -> None:
    assert empty_bands(48_000, WIDE) == empty_bands(44_100, WIDE) == 0
    assert empty_bands(8_000, NARROW) == 13
    expected = np.full(64, -50.0, np.float32)
    assert empty_bands(8_000, NARROW, expected) == 13
    expected[51:] = -100.0
    assert empty_bands(8_000, NARROW, expected) == 0
