"""The front end: turns the samples of a tick into frames in dB, of mel bands or of the spectrum itself."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from monitor.arrays import F32, F64
from monitor.errors import ConfigError
from monitor.scoring.filter_bank import Bands, EqualBands, MelBands
from monitor.scoring.mel import mel_edges_hz, mel_filters

_ROWS = 16  # frames transformed at a time: few enough that malloc reuses the memory


@dataclass(frozen=True, kw_only=True)
class Framing:
    """The parameters of both kinds of front end, named as in librosa. They come from the bundle, never from the configuration."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}

    sample_rate_hz: int
    n_fft: int
    hop_length: int
    window_fn: Literal["hann", "boxcar"] = "hann"
    power: float = 2.0
    log: Literal["max", "add"] = "max"  # 10 log10(max(x, floor)) or 10 log10(x + floor)
    floor: float = 1e-10

    def __post_init__(self) -> None:
        _within("sample_rate_hz", self.sample_rate_hz, 1_000, 384_000)
        _within("n_fft", self.n_fft, 16, 1 << 20)
        _within("hop_length", self.hop_length, 1, self.n_fft)
        if self.power not in (1.0, 2.0):
            raise ConfigError(f"power must be 1.0 (magnitude) or 2.0 (power), got {self.power:g}")
        if not 0.0 < self.floor <= 1.0:
            raise ConfigError(f"floor must be above 0 and at most 1, got {self.floor:g}")


@dataclass(frozen=True, kw_only=True)
class LogMelSpec(Framing):
    """Frames of mel bands (Slaney's scale and norm)."""

    kind: Literal["log_mel"] = "log_mel"
    n_mels: int
    fmin_hz: float = 0.0
    fmax_hz: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _within("n_mels", self.n_mels, 1, self.n_fft // 2)
        _within("fmax_hz", self.fmax_hz, 1.0, self.sample_rate_hz / 2)
        if not 0.0 <= self.fmin_hz < self.fmax_hz:
            raise ConfigError(f"fmin_hz must be in 0..fmax_hz ({self.fmax_hz:g}), got {self.fmin_hz:g}")

    @property
    def n_bands(self) -> int:
        """The number of values in a frame."""
        return self.n_mels

    def band_limits_hz(self) -> F64:
        """Limits (n_bands + 1,), Hz, half-way between the filters' edges: band i lies between limits i and i + 1."""
        edges = mel_edges_hz(n_mels=self.n_mels, fmin_hz=self.fmin_hz, fmax_hz=self.fmax_hz)
        return np.asarray((edges[:-1] + edges[1:]) / 2)

    def bands(self) -> Bands:
        """The object that pools a spectrum into bands."""
        filters = mel_filters(
            sample_rate_hz=self.sample_rate_hz,
            n_fft=self.n_fft,
            n_mels=self.n_mels,
            fmin_hz=self.fmin_hz,
            fmax_hz=self.fmax_hz,
        )
        return MelBands(filters)


@dataclass(frozen=True, kw_only=True)
class LogSpectrumSpec(Framing):
    """Frames of the spectrum itself: its first n_fft // 2 bins, or means over `n_bins` equal runs of them."""

    kind: Literal["log_spectrum"] = "log_spectrum"
    n_bins: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _within("n_bins", self.n_bins, 1, self.n_fft // 2)
        if (self.n_fft // 2) % self.n_bins:
            raise ConfigError(f"n_bins must divide n_fft // 2 ({self.n_fft // 2}), got {self.n_bins}")

    @property
    def n_bands(self) -> int:
        """The number of values in a frame."""
        return self.n_bins

    def band_limits_hz(self) -> F64:
        """Limits (n_bands + 1,), Hz: band i lies between limits i and i + 1."""
        return np.linspace(0.0, self.sample_rate_hz / 2, self.n_bins + 1)

    def bands(self) -> Bands:
        """The object that pools a spectrum into bands."""
        return EqualBands(n_bins=self.n_bins, width=self.n_fft // 2 // self.n_bins)


FrontEndSpec: TypeAlias = LogMelSpec | LogSpectrumSpec


class FrontEnd:
    """Turn the samples of one tick into its frames. It is stateless: frames depend on the samples alone.

    The window and the FFT are float64, so that rounding errors of a strong tone do not mask weak bands. Power, bands and log
    are float32. There is no centring, padding or per-clip normalisation.
    """

    def __init__(self, spec: FrontEndSpec, *, tick_frames: int) -> None:
        self.spec = spec
        self._tick_frames = tick_frames
        self._window = np.tile(_window(spec), (min(_ROWS, tick_frames), 1))  # one row per frame: faster than broadcasting
        self._windowed = np.empty_like(self._window)
        self._power = np.empty((tick_frames, spec.n_fft // 2 + 1), np.float32)
        self._bands = _bands(spec)
        self._floor = np.float32(spec.floor)

    def frames(self, samples: F32) -> F32:
        """Frames (tick_frames, n_bands), float32, dB, of samples (tick_frames * hop_length + n_fft - hop_length,)."""
        step = samples.itemsize
        cut = np.ndarray((self._tick_frames, self.spec.n_fft), np.float32, samples, strides=(self.spec.hop_length * step, step))
        for first in range(0, len(cut), _ROWS):
            some = cut[first : first + _ROWS]
            windowed = self._windowed[: len(some)]
            windowed[:] = some  # converted first: a third faster than a product of mixed types
            windowed *= self._window[: len(some)]
            spectrum = np.fft.rfft(windowed)
            power = np.square(spectrum.real)
            power += np.square(spectrum.imag)
            self._power[first : first + _ROWS] = power
        if self.spec.power == 1.0:
            np.sqrt(self._power, out=self._power)
        bands = self._bands(self._power)
        floored = bands + self._floor if self.spec.log == "add" else np.maximum(bands, self._floor)
        decibels: F32 = np.float32(10.0) * np.log10(floored)
        return decibels


@lru_cache(maxsize=8)
def _bands(spec: FrontEndSpec) -> Bands:
    """Cached, because training creates a front end for each of thousands of clips. The bands are stateless."""
    return spec.bands()


def _window(spec: FrontEndSpec) -> F64:
    """The analysis window (n_fft,), float64; Hann is periodic (`scipy.signal.get_window(..., fftbins=True)`)."""
    if spec.window_fn == "boxcar":
        return np.ones(spec.n_fft)
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(spec.n_fft) / spec.n_fft)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} must be in {low:g}..{high:g}, got {value}")
