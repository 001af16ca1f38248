"""The front end: a tick of sound in, log-mel frames out."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from monitor.core.arrays import F32, F64
from monitor.core.errors import ConfigError
from monitor.core.mel import mel_edges_hz, mel_filters

_MAX_BINS = 256  # in one matrix product
_ROWS = 16  # frames transformed at a time: little enough for malloc to reuse the memory instead of returning it


@dataclass(frozen=True, kw_only=True)
class FrontEndSpec:
    """The front end's parameters, under librosa's names; they come from the bundle, never from the config."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}

    kind: Literal["log_mel"] = "log_mel"
    sample_rate_hz: int
    n_fft: int
    hop_length: int
    window_fn: Literal["hann", "boxcar"] = "hann"
    n_mels: int
    fmin_hz: float = 0.0
    fmax_hz: float
    power: float = 2.0
    log: Literal["max", "add"] = "max"  # 10 log10(max(x, floor)) or 10 log10(x + floor)
    floor: float = 1e-10

    def __post_init__(self) -> None:
        nyquist_hz = self.sample_rate_hz / 2
        _within("sample_rate_hz", self.sample_rate_hz, 1_000, 384_000)
        _within("n_fft", self.n_fft, 16, 1 << 20)
        _within("hop_length", self.hop_length, 1, self.n_fft)
        _within("n_mels", self.n_mels, 1, self.n_fft // 2)
        _within("fmax_hz", self.fmax_hz, 1.0, nyquist_hz)
        if not 0.0 <= self.fmin_hz < self.fmax_hz:
            raise ConfigError(f"fmin_hz must be in 0..fmax_hz ({self.fmax_hz:g}), got {self.fmin_hz:g}")
        if self.power not in (1.0, 2.0):
            raise ConfigError(f"power must be 1.0 (magnitude) or 2.0 (power), got {self.power:g}")
        if not 0.0 < self.floor <= 1.0:
            raise ConfigError(f"floor must be above 0 and at most 1, got {self.floor:g}")

    def edges_hz(self) -> F64:
        """Edges (n_mels + 2,), Hz, of the bands: band i lies between edge i and edge i + 2, its centre at i + 1."""
        return mel_edges_hz(n_mels=self.n_mels, fmin_hz=self.fmin_hz, fmax_hz=self.fmax_hz)


class FrontEnd:
    """Turn the samples of one tick into its frames. It keeps no state: frames depend on the samples alone.

    Window and FFT are float64, so that a strong tone does not hide weak bands behind rounding; power, mel and log are
    float32. There is no centring, padding or per-clip normalisation.
    """

    def __init__(self, spec: FrontEndSpec, *, tick_frames: int) -> None:
        self.spec = spec
        self._window = _window(spec)
        self._tick_frames = tick_frames
        self._windowed = np.empty((_ROWS, spec.n_fft), np.float64)
        self._power = np.empty((tick_frames, spec.n_fft // 2 + 1), np.float32)
        filters = mel_filters(
            sample_rate_hz=spec.sample_rate_hz,
            n_fft=spec.n_fft,
            n_mels=spec.n_mels,
            fmin_hz=spec.fmin_hz,
            fmax_hz=spec.fmax_hz,
        )
        self._parts = _mel_parts(filters)
        self._mel = np.empty((tick_frames, spec.n_mels), np.float32)
        self._floor = np.float32(spec.floor)

    def frames(self, samples: F32) -> F32:
        """Frames (tick_frames, n_mels), float32, dB, of samples (tick_frames * hop_length + n_fft - hop_length,)."""
        step = samples.itemsize
        cut = np.ndarray((self._tick_frames, self.spec.n_fft), np.float32, samples, strides=(self.spec.hop_length * step, step))
        for first in range(0, len(cut), _ROWS):
            some = cut[first : first + _ROWS]
            spectrum = np.fft.rfft(np.multiply(some, self._window, out=self._windowed[: len(some)]))
            np.add(spectrum.real**2, spectrum.imag**2, out=self._power[first : first + _ROWS], casting="same_kind")
        if self.spec.power == 1.0:
            np.sqrt(self._power, out=self._power)
        self._mel.fill(0.0)
        for bins, bands, weights in self._parts:
            self._mel[:, bands] += self._power[:, bins] @ weights
        mel = self._mel + self._floor if self.spec.log == "add" else np.maximum(self._mel, self._floor)
        decibels: F32 = np.float32(10.0) * np.log10(mel)
        return decibels


def _mel_parts(filters: F32) -> list[tuple[slice, slice, F32]]:
    """Mel filters (n_mels, n_bins) cut into (bins, the bands they reach, weights (n_bins, n_bands)).

    A BLAS sums a short product in one go and a long one in blocks whose size changes with its version, and with it the
    last bits of the sum. Most of the whole matrix is zero, anyway.
    """
    parts = []
    for first in range(0, filters.shape[1], _MAX_BINS):
        bins = slice(first, min(first + _MAX_BINS, filters.shape[1]))
        reached = np.flatnonzero(filters[:, bins].any(axis=1))
        if len(reached):
            bands = slice(int(reached[0]), int(reached[-1]) + 1)
            parts.append((bins, bands, np.ascontiguousarray(filters[bands, bins].T)))
    return parts


def _window(spec: FrontEndSpec) -> F64:
    """The analysis window (n_fft,), float64; Hann is periodic (`scipy.signal.get_window(..., fftbins=True)`)."""
    if spec.window_fn == "boxcar":
        return np.ones(spec.n_fft)
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(spec.n_fft) / spec.n_fft)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} must be in {low:g}..{high:g}, got {value:g}")
