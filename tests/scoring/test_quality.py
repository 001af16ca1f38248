import numpy as np
import pytest

from monitor.arrays import F32
from monitor.scoring.quality import Quality
from monitor.scoring.quality import measure_quality as measure
from tests.signals import hum, noise


def measure_quality(samples: F32, *, sample_rate_hz: int = 16_000) -> Quality:
    return measure(samples, sample_rate_hz=sample_rate_hz)


def test_a_machine_may_be_scored() -> None:
    quality = measure_quality(hum(1, 16_000))
    assert quality.reason is None
    assert quality.rms_dbfs == pytest.approx(-27.0, abs=1.0)


def test_the_level_of_a_full_scale_sine_is_minus_three_decibels() -> None:
    sine = np.sin(2 * np.pi * np.arange(16_000) / 160).astype(np.float32)
    assert measure_quality(0.5 * sine).rms_dbfs == pytest.approx(-9.03, abs=0.01)
    assert measure_quality(0.5 * sine).peak == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "samples", "reason"),
    [
        ("digital silence", np.zeros(16_000, np.float32), "silent"),
        ("below the last bit", noise(1, 16_000, level=1e-5), "silent"),
        ("mostly dropped out", np.concatenate((np.zeros(9_000, np.float32), noise(1, 7_000))), "silent"),
        ("some of it dropped out", np.concatenate((np.zeros(1_000, np.float32), noise(1, 15_000))), "gap"),
        ("a dead capsule", (0.01 + np.round(noise(1, 16_000, level=2e-5) * 32768) / 32768).astype(np.float32), "flat_line"),
        ("stuck converter", np.full(16_000, 0.3, np.float32), "flat_line"),
        ("overdriven", np.clip(40 * noise(1, 16_000), -1, 1), "clipped"),
    ],
)
def test_what_is_no_sound_is_named(name: str, samples: np.typing.NDArray[np.float32], reason: str) -> None:
    assert measure_quality(samples).reason == reason, name


def test_a_quiet_16_bit_microphone_is_no_dropout() -> None:
    samples = (np.round(noise(1, 16_000, level=1e-4) * 32768) / 32768).astype(np.float32)
    assert 0.05 < np.mean(samples == 0.0) < 0.5
    assert measure_quality(samples).reason is None


def test_a_valve_in_a_quiet_room_is_no_dropout() -> None:
    """16 bits: background of a few units, which is often exactly zero, and loud impulses."""
    samples = noise(1, 16_000, level=4e-5)
    samples[::4000] = 0.5
    samples = (np.round(samples * 32768) / 32768).astype(np.float32)
    quality = measure_quality(samples)
    assert quality.rms_dbfs > -50.0
    assert quality.zero_fraction > 0.05
    assert quality.reason is None


def test_a_constant_offset_is_measured_and_is_not_part_of_the_level() -> None:
    quality = measure_quality((noise(1, 16_000) + 0.1).astype(np.float32))
    assert quality.dc == pytest.approx(0.1, abs=0.002)
    assert quality.rms_dbfs == pytest.approx(measure_quality(noise(1, 16_000)).rms_dbfs, abs=0.01)
    assert quality.reason is None


def test_a_single_full_scale_knock_is_not_clipping() -> None:
    samples = noise(1, 16_000)
    samples[5_000:5_020] = 1.0
    assert measure_quality(samples).reason is None


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_a_hole_of_ten_milliseconds_is_a_gap_at_any_rate(rate_hz: int) -> None:
    samples = noise(1, rate_hz)
    samples[1_000 : 1_000 + rate_hz // 110] = 0.0
    assert measure_quality(samples, sample_rate_hz=rate_hz).reason is None
    samples[1_000 : 1_000 + rate_hz // 90] = 0.0
    assert measure_quality(samples, sample_rate_hz=rate_hz).reason == "gap"
