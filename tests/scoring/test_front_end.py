from typing import Any

import numpy as np
import pytest

from monitor.errors import ConfigError
from monitor.scoring.front_end import FrontEnd, LogMelSpec, LogSpectrumSpec
from monitor.scoring.mel import mel_edges_hz
from tests.scoring.linear import FRONT_END
from tests.signals import noise

GOOD: dict[str, Any] = {"sample_rate_hz": 16000, "n_fft": 1024, "hop_length": 512, "n_mels": 64, "fmax_hz": 8000.0}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hop_length", 0, r"hop_length must be in 1\.\.1024, got 0"),
        ("hop_length", 2048, r"hop_length must be in 1\.\.1024, got 2048"),
        ("n_fft", 8, r"n_fft must be in 16"),
        ("n_mels", 0, r"n_mels must be in 1\.\.512, got 0"),
        ("fmax_hz", 9000.0, r"fmax_hz must be in 1\.\.8000, got 9000"),
        ("fmin_hz", 8000.0, r"fmin_hz must be in 0\.\.fmax_hz \(8000\), got 8000"),
        ("power", 1.5, r"power must be 1\.0 \(magnitude\) or 2\.0 \(power\), got 1\.5"),
        ("floor", 0.0, r"floor must be above 0 and at most 1, got 0"),
        ("sample_rate_hz", 10, r"sample_rate_hz must be in 1000"),
    ],
)
def test_impossible_parameters_are_named(key: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LogMelSpec(**{**GOOD, key: value})


@pytest.mark.parametrize(
    ("n_bins", "message"), [(0, r"be in 1\.\.512, got 0"), (513, r"be in 1\.\.512"), (3, r"divide n_fft // 2 \(512\)")]
)
def test_bins_are_equal_runs_of_the_spectrum(n_bins: int, message: str) -> None:
    framing: dict[str, Any] = {"sample_rate_hz": 16000, "n_fft": 1024, "hop_length": 512}
    assert LogSpectrumSpec(**framing, n_bins=1).n_bins == 1
    with pytest.raises(ConfigError, match=f"n_bins must {message}"):
        LogSpectrumSpec(**framing, n_bins=n_bins)


def test_silence_is_the_floor() -> None:
    samples = np.zeros(31 * 512 + 1024, np.float32)
    for log in ("max", "add"):
        frames = FrontEnd(LogMelSpec(**GOOD, log=log), tick_frames=32).frames(samples)
        assert frames.dtype == np.float32
        assert frames.shape == (32, 64)
        np.testing.assert_allclose(frames, -100.0, atol=1e-4)


def test_twice_the_amplitude_is_six_decibels_more_at_either_power() -> None:
    samples = noise(2, 31 * 512 + 1024)
    for power, gain_db in ((2.0, 6.0206), (1.0, 3.0103)):
        front_end = FrontEnd(LogMelSpec(**GOOD, power=power), tick_frames=32)
        np.testing.assert_allclose(front_end.frames(2 * samples) - front_end.frames(samples), gain_db, atol=1e-4)


def test_a_tone_peaks_in_the_band_that_holds_it() -> None:
    edges = mel_edges_hz(n_mels=64, fmin_hz=0.0, fmax_hz=8000.0)
    t = np.arange(31 * 512 + 1024) / 16000
    for band in (10, 30, 50):
        tone = (0.1 * np.sin(2 * np.pi * edges[band + 1] * t)).astype(np.float32)
        frames = FrontEnd(FRONT_END, tick_frames=32).frames(tone)
        assert set(frames.argmax(axis=1)) == {band}
