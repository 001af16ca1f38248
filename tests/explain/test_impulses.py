import tracemalloc

import numpy as np
import pytest

from monitor.arrays import F32, F64
from monitor.explain.envelope import MIN_RATE_HZ, Envelope, Run, envelope_spectrum, pooled_rates_hz, pooled_shape
from monitor.explain.impulses import impulse_rate_hz
from monitor.explain.profile import SegmentProfile
from monitor.explain.reference import EnvelopeSpectra, fit_reference
from tests.signals import noise

RATE_HZ = 16000
RATES_HZ = pooled_rates_hz(RATE_HZ)
N = 10 * RATE_HZ


def knocks(rate_hz: float, *, carrier_hz: float = 3100.0, level: float = 0.2, n: int = N) -> F64:
    """Ringing knocks, their times off by 1 % of their spacing."""
    draw = np.random.default_rng(round(1000 * rate_hz))
    at = np.rint(
        (np.arange(1, int(n / RATE_HZ * rate_hz)) + draw.normal(0, 0.01, int(n / RATE_HZ * rate_hz) - 1)) / rate_hz * RATE_HZ
    )
    train = np.zeros(n)
    train[at[at < n].astype(int)] = level
    t = np.arange(160) / RATE_HZ
    return np.convolve(train, np.exp(-t / 0.0015) * np.sin(2 * np.pi * carrier_hz * t))[:n]


def spectrum_of(*sounds: F64 | F32, start: int = 0) -> Envelope:
    runs, at = [], start
    for sound in sounds:
        runs.append(Run(at, np.asarray(sound, np.float32)))
        at += len(sound) + RATE_HZ  # a second is missing
    return envelope_spectrum(runs, sample_rate_hz=RATE_HZ)


def learned(*sounds: F64 | F32) -> EnvelopeSpectra:
    frame = np.zeros(64)
    envelope = fit_reference([SegmentProfile(frame, frame, spectrum_of(one).pooled_db(RATES_HZ)) for one in sounds]).envelope
    assert envelope is not None
    return envelope


NORMAL = learned(*(noise(seed, N, level=0.02) for seed in range(8)))


@pytest.mark.parametrize("rate_hz", [2.3, 7.0, 24.9, 87.3, 143.0, 295.0])
def test_the_rate_of_impulses_is_found(rate_hz: float) -> None:
    found = impulse_rate_hz(spectrum_of(noise(100, N, level=0.02) + knocks(rate_hz)), NORMAL, RATES_HZ)
    assert found == pytest.approx(rate_hz, rel=0.01)


def test_a_gap_does_not_hide_them() -> None:
    first, second = (noise(seed, N // 2, level=0.02) + knocks(87.3, n=N // 2) for seed in (1, 2))
    assert impulse_rate_hz(spectrum_of(first, second, start=12345), NORMAL, RATES_HZ) == pytest.approx(87.3, rel=0.01)


def test_blocks_give_what_one_transform_of_all_the_sound_gives() -> None:
    sound = np.asarray(noise(100, N, level=0.02) + knocks(87.3), np.float32)
    got = spectrum_of(sound)
    width, top = N // 2 // 8, got.power.shape[1]
    from_end = np.minimum(np.arange(width), width - np.arange(width)) / width
    fade = 0.5 - 0.5 * np.cos(np.pi * np.minimum(1.0, from_end / 0.15))
    bands = np.fft.rfft(sound.astype(np.float64))[:-1].reshape(8, width) * fade
    envelopes = np.abs(np.fft.ifft(bands, 2 * width, axis=1)) ** 2
    window = np.hanning(2 * width + 2)[1:-1]
    means = envelopes @ window / window.sum()
    swell = (envelopes / means[:, None] - 1.0) * window
    power = np.abs(np.fft.rfft(swell, axis=1, n=round(2000 / got.step_hz))[:, :top]) ** 2 / (window @ window)
    want = Envelope(power, got.step_hz)
    np.testing.assert_allclose(got.pooled_db(RATES_HZ), want.pooled_db(RATES_HZ), atol=0.05)
    strong = power > 1e-2
    strong[:, : round(MIN_RATE_HZ / got.step_hz)] = False
    np.testing.assert_allclose(got.power[strong], power[strong], rtol=0.02)


def test_ticks_that_adjoin_are_one_run() -> None:
    sound = noise(100, N, level=0.02)
    ticks = [Run(5000 + at, sound[at : at + 12345]) for at in range(0, N, 12345)]
    whole, parts = (envelope_spectrum(runs, sample_rate_hz=RATE_HZ) for runs in ([Run(0, sound)], ticks))
    assert whole.power.tobytes() == parts.power.tobytes()


def test_a_description_takes_little_memory() -> None:
    sound = noise(100, N, level=0.02) + np.asarray(knocks(87.3), np.float32)
    tracemalloc.start()
    try:
        envelope = envelope_spectrum([Run(0, sound)], sample_rate_hz=RATE_HZ)
        impulse_rate_hz(envelope, NORMAL, RATES_HZ)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5e6


def test_impulses_that_are_usual_are_not_named() -> None:
    usual = learned(*(noise(seed, N, level=0.02) + knocks(25.0) for seed in range(8)))
    both = noise(100, N, level=0.02) + knocks(25.0) + knocks(87.3, carrier_hz=5200.0)
    assert impulse_rate_hz(spectrum_of(noise(101, N, level=0.02) + knocks(25.0)), usual, RATES_HZ) is None
    assert impulse_rate_hz(spectrum_of(both), usual, RATES_HZ) == pytest.approx(87.3, rel=0.01)


@pytest.mark.parametrize("seed", range(200, 210))
def test_noise_and_tones_that_beat_are_no_impulses(seed: int) -> None:
    t = np.arange(N) / RATE_HZ
    tones = 0.05 * (np.sin(2 * np.pi * 3000 * t) + np.sin(2 * np.pi * 3080 * t))
    assert impulse_rate_hz(spectrum_of(noise(seed, N, level=0.04)), NORMAL, RATES_HZ) is None
    assert impulse_rate_hz(spectrum_of(noise(seed, N, level=0.02) + tones), NORMAL, RATES_HZ) is None


@pytest.mark.parametrize("sample_rate_hz", [1000, 8000, 16000, 44100, 192000])
def test_a_pooled_spectrum_has_the_shape_that_a_bundle_keeps(sample_rate_hz: int) -> None:
    for n in (sample_rate_hz // 8, sample_rate_hz):
        envelope = envelope_spectrum([Run(0, noise(1, n, level=0.1))], sample_rate_hz=sample_rate_hz)
        pooled = envelope.pooled_db(pooled_rates_hz(sample_rate_hz))
        assert pooled.shape == pooled_shape(sample_rate_hz)
        assert np.isfinite(pooled).all()


def test_a_stretch_has_no_constant_part_and_a_gap_is_silent() -> None:
    gappy = spectrum_of(noise(1, N // 4), 3.0 * noise(2, N // 4))
    assert gappy.power[:, 0].max() < 1e-6
    assert gappy.step_hz == 2000.0 / 12288  # six seconds of 2,000 values, in multiples of 512


def test_gain_has_no_effect_on_the_envelope_spectrum() -> None:
    plain, loud = spectrum_of(noise(1, N)), spectrum_of(10.0 * noise(1, N))
    np.testing.assert_allclose(loud.power, plain.power, rtol=1e-3, atol=1e-6)
