"""Sound that was resampled from a lower rate is distinguished from a quiet machine."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from monitor.arrays import F32
from monitor.block import Block
from monitor.scoring.bandwidth import edge_hz, empty_bands, is_cut_off, is_cut_off_at, may_be_cut_off
from monitor.scoring.front_end import LogMelSpec
from monitor.scoring.scorer import score_stream
from tests.scoring.linear import frames_of, linear_scorer

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
    assert empty_bands(8_000, NARROW) == 14
    expected = np.full(64, -50.0, np.float32)
    assert empty_bands(8_000, NARROW, expected) == 14
    expected[51:] = -100.0
    assert empty_bands(8_000, NARROW, expected) == 0


def falling_noise(rate_hz: int, *, db_per_octave: float, noise_db: float, level_db: float = -70.0, seconds: float = 2.0) -> F32:
    """Noise of `level_db` per hertz up to 500 Hz that falls off above, over a microphone's noise of `noise_db` per hertz."""
    n = round(seconds * rate_hz)
    hz = np.fft.rfftfreq(n, 1.0 / rate_hz)
    power = 10.0 ** (level_db / 10.0) * np.maximum(hz / 500.0, 1.0) ** (-db_per_octave / 3.0103) + 10.0 ** (noise_db / 10.0)
    spectrum = np.random.default_rng(1).standard_normal((2, len(hz))) * np.sqrt(power * rate_hz * n / 4.0)
    return np.asarray(np.fft.irfft(spectrum[0] + 1j * spectrum[1], n), np.float32)


def as_16_bit(samples: F32) -> F32:
    return np.asarray(np.round(samples * 32768.0) / 32768.0, np.float32)


@pytest.mark.parametrize("stored", ["float", "16 bit"])
@pytest.mark.parametrize(
    ("low_hz", "rate_hz"), [(8000, 16000), (11025, 16000), (12000, 16000), (15000, 16000), (8000, 48000), (16000, 48000)]
)
def test_sound_that_was_resampled_upwards_ends_at_an_edge(low_hz: int, rate_hz: int, stored: str) -> None:
    low = as_16_bit(falling_noise(low_hz, db_per_octave=6.0, noise_db=-105.0))
    sound = np.asarray(soxr.resample(low, low_hz, rate_hz), np.float32)
    edge = edge_hz(as_16_bit(sound) if stored == "16 bit" else sound, sample_rate_hz=rate_hz)
    assert edge == pytest.approx(low_hz / 2, rel=0.16)


@given(
    db_per_octave=st.floats(0.0, 40.0),
    noise_db=st.floats(-145.0, -90.0),
    level_db=st.floats(-110.0, -50.0),
    bits=st.sampled_from([8, 16, 24]),
    rate_hz=st.sampled_from([8000, 16000, 44100, 48000]),
)
def test_a_machine_of_any_loudness_over_a_microphone_of_any_noise_has_no_edge(
    db_per_octave: float, noise_db: float, level_db: float, bits: int, rate_hz: int
) -> None:
    sound = falling_noise(rate_hz, db_per_octave=db_per_octave, noise_db=noise_db, level_db=level_db, seconds=1.0)
    step = 2.0 ** (1 - bits)
    assert edge_hz(np.asarray(np.round(sound / step) * step, np.float32), sample_rate_hz=rate_hz) is None


@pytest.mark.parametrize("noise_db", [-140.0, -125.0, -110.0])
def test_tones_have_no_edge_above_the_highest_one(noise_db: float) -> None:
    t = np.arange(32000) / 16000
    tones = sum(0.05 / k * np.sin(2 * np.pi * 243.0 * k * t + k) for k in range(1, 17))
    noise = falling_noise(16000, db_per_octave=0.0, noise_db=noise_db, level_db=noise_db)
    assert edge_hz(np.asarray(tones + noise, np.float32), sample_rate_hz=16000) is None


def test_too_little_sound_has_no_edge() -> None:
    sound = np.asarray(soxr.resample(falling_noise(8000, db_per_octave=6.0, noise_db=-105.0), 8000, 16000), np.float32)
    assert edge_hz(sound[:2047], sample_rate_hz=16000) is None
    assert edge_hz(sound[:2048], sample_rate_hz=16000) is not None
    assert edge_hz(sound, sample_rate_hz=2000) is None


def hum_with_noise(low_hz: int) -> F32:
    """A machine at 16 kHz, resampled from `low_hz`."""
    t = np.arange(20 * low_hz) / low_hz
    tones = sum(0.05 / k * np.sin(2 * np.pi * 97.0 * k * t + k) for k in range(1, 6))
    low = as_16_bit(np.asarray(tones + falling_noise(low_hz, db_per_octave=6.0, noise_db=-100.0, seconds=20.0), np.float32))
    return np.asarray(soxr.resample(low, low_hz, 16000), np.float32)


@pytest.mark.parametrize("low_hz", [8000, 11025, 12000, 15000])
def test_resampled_sound_is_unknown_unless_the_bundle_learned_from_it(low_hz: int) -> None:
    sound = hum_with_noise(low_hz)
    scorer = linear_scorer()
    for learned, reason in ((hum_with_noise(16000), "bandwidth"), (sound, None)):
        scorer.expected_db = frames_of([Block(0, learned)]).mean(axis=0)
        assert {tick.reason for tick in score_stream(scorer, [Block(0, sound)])[:-1]} == {reason}


@pytest.mark.parametrize("low_hz", [8000, 11025, 12000, 15000])
def test_a_source_of_a_low_rate_is_unknown_unless_the_bundle_learned_from_it(low_hz: int) -> None:
    assert empty_bands(low_hz, NARROW, frames_of([Block(0, hum_with_noise(16000))]).mean(axis=0)) > 0
    assert empty_bands(low_hz, NARROW, frames_of([Block(0, hum_with_noise(low_hz))]).mean(axis=0)) == 0
    assert empty_bands(16000, WIDE, machine()) > 0


@pytest.mark.parametrize(("level_db", "n_empty"), [(-85.0, 0), (-79.0, 14)])
def test_a_band_100_db_below_the_loudest_is_expected_to_be_empty(level_db: float, n_empty: int) -> None:
    expected = np.full(64, level_db, np.float32)
    expected[0] = 20.0
    assert empty_bands(8_000, NARROW, expected) == n_empty


LIMITS = WIDE.band_limits_hz()


def test_an_edge_above_all_bands_or_below_them_cuts_nothing_off() -> None:
    assert not is_cut_off_at(LIMITS[-1] + 1.0, machine() - 40.0, machine(), LIMITS)
    assert not is_cut_off_at(LIMITS[1], machine() - 40.0, machine(), LIMITS)


@pytest.mark.parametrize("first", [127, 100, 40])
@pytest.mark.parametrize(("lost_db", "cut"), [(5.9, False), (6.1, True)])
def test_bands_above_an_edge_must_have_lost_6_db(first: int, lost_db: float, cut: bool) -> None:
    expected = machine()
    heard = expected - 10.0
    heard[first:] -= lost_db
    heard[(LIMITS[1:] > 0.87 * LIMITS[first])[:128] & (np.arange(128) < first)] -= 3.0  # the edge is wide
    assert is_cut_off_at(LIMITS[first], heard, expected, LIMITS) == cut


def test_only_three_bands_below_an_edge_count() -> None:
    expected = machine()
    heard = expected.copy()
    heard[100:] -= 10.0
    full = int(np.count_nonzero(LIMITS[1:] < 0.87 * LIMITS[100]))
    heard[: full - 3] -= 40.0
    assert is_cut_off_at(LIMITS[100], heard, expected, LIMITS)


@pytest.mark.parametrize("spec", [NARROW, WIDE, replace(NARROW, fmax_hz=500.0), replace(NARROW, n_mels=1)])
def test_sound_is_searched_for_an_edge_only_where_one_would_count(spec: LogMelSpec) -> None:
    edges_hz = [edge * spec.sample_rate_hz / 256 for edge in range(16, 122)]
    limits_hz, rng, both = spec.band_limits_hz(), np.random.default_rng(0), set()
    for at, drop_db in product(range(0, spec.n_bands, 3), (0.0, 4.0, 6.0, 8.0, 30.0)):
        expected = np.asarray(rng.normal(-50.0, 10.0, spec.n_bands), np.float32)
        heard = np.asarray(expected + rng.normal(0.0, 1.0, spec.n_bands), np.float32)
        heard[at:] -= np.float32(drop_db)
        counts = any(is_cut_off_at(edge, heard, expected, limits_hz) for edge in edges_hz)
        assert may_be_cut_off(heard, expected, spec) == counts
        both.add(counts)
    assert both == ({False, True} if spec.n_bands > 1 and spec.fmax_hz > 500.0 else {False})
