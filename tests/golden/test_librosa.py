"""Interior frames equal librosa's, fed float64, within 1e-4 dB; also with strong tones and sweeps."""

from typing import Any

import librosa
import numpy as np
import pytest

from monitor.arrays import F32, F64
from monitor.block import Block
from monitor.scoring.frames import stream_frames
from monitor.scoring.front_end import LogMelSpec
from monitor.scoring.mel import mel_filters

TOLERANCE_DB = 1e-4

SETS: dict[str, dict[str, Any]] = {
    "mimii": {"sample_rate_hz": 16000, "n_fft": 1024, "hop_length": 512, "n_mels": 64, "fmax_hz": 8000.0},
    "dcase": {
        "sample_rate_hz": 16000,
        "n_fft": 1024,
        "hop_length": 512,
        "n_mels": 128,
        "fmax_hz": 8000.0,
        "log": "add",
        "floor": 2.2e-16,
    },
    "wide": {"sample_rate_hz": 16000, "n_fft": 2048, "hop_length": 512, "n_mels": 128, "fmin_hz": 50.0, "fmax_hz": 7800.0},
    "cd": {"sample_rate_hz": 44100, "n_fft": 2048, "hop_length": 1024, "n_mels": 128, "fmax_hz": 22050.0},
    "cd-band": {"sample_rate_hz": 44100, "n_fft": 1024, "hop_length": 441, "n_mels": 64, "fmin_hz": 100.0, "fmax_hz": 10000.0},
    "studio": {"sample_rate_hz": 48000, "n_fft": 2048, "hop_length": 512, "n_mels": 64, "fmin_hz": 20.0, "fmax_hz": 20000.0},
    "studio-short": {"sample_rate_hz": 48000, "n_fft": 1024, "hop_length": 480, "n_mels": 128, "fmax_hz": 24000.0},
    "magnitude": {"sample_rate_hz": 16000, "n_fft": 1024, "hop_length": 512, "n_mels": 64, "fmax_hz": 8000.0, "power": 1.0},
    "boxcar": {"sample_rate_hz": 16000, "n_fft": 1024, "hop_length": 512, "n_mels": 64, "fmax_hz": 8000.0, "window_fn": "boxcar"},
}


def noise(t: F64, rate_hz: int) -> F64:
    return 0.1 * np.random.default_rng(5).standard_normal(len(t))


def tones(t: F64, rate_hz: int) -> F64:
    """Three tones 80 dB above the noise between them."""
    quiet = 0.5e-4 * np.random.default_rng(5).standard_normal(len(t))
    return quiet + sum(0.3 * np.sin(2 * np.pi * f * rate_hz * t) for f in (0.0131, 0.0877, 0.2113))


def sweep(t: F64, rate_hz: int) -> F64:
    """From 20 Hz to 0.45 of the rate, over a little noise."""
    rising = 20.0 * t + 0.5 * (0.45 * rate_hz - 20.0) / t[-1] * t**2
    return np.asarray(0.5 * np.sin(2 * np.pi * rising) + 1e-4 * np.random.default_rng(5).standard_normal(len(t)))


def our_frames(samples: F32, spec: LogMelSpec) -> F32:
    return np.concatenate(list(stream_frames([Block(0, samples)], spec, tick_frames=32)))


def librosa_frames(samples: F32, spec: LogMelSpec) -> F64:
    mel = librosa.feature.melspectrogram(
        y=samples.astype(np.float64),
        sr=spec.sample_rate_hz,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        fmin=spec.fmin_hz,
        fmax=spec.fmax_hz,
        power=spec.power,
        window="hann" if spec.window_fn == "hann" else "boxcar",
        center=False,
    )
    logarithm = mel + spec.floor if spec.log == "add" else np.maximum(mel, spec.floor)
    return np.asarray(10.0 * np.log10(logarithm).T)


@pytest.mark.parametrize("sound", [noise, tones, sweep])
@pytest.mark.parametrize("name", SETS)
def test_frames_equal_librosas(name: str, sound: Any) -> None:
    spec = LogMelSpec(**SETS[name])
    t = np.arange(5 * spec.sample_rate_hz) / spec.sample_rate_hz
    samples = np.asarray(sound(t, spec.sample_rate_hz), np.float32)
    ours, theirs = our_frames(samples, spec), librosa_frames(samples, spec)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < TOLERANCE_DB


@pytest.mark.parametrize("name", SETS)
def test_filters_equal_librosas(name: str) -> None:
    spec = LogMelSpec(**SETS[name])
    ours = mel_filters(
        sample_rate_hz=spec.sample_rate_hz, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin_hz=spec.fmin_hz, fmax_hz=spec.fmax_hz
    )
    theirs = librosa.filters.mel(
        sr=spec.sample_rate_hz, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin=spec.fmin_hz, fmax=spec.fmax_hz
    )
    np.testing.assert_allclose(ours, theirs, rtol=3e-7, atol=1e-12)
