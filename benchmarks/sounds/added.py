"""Add known differences to recordings of normal sound, and compute the expected description from the added sound alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from monitor.arrays import F64

RATE_HZ = 16000
HUM_HZ, N_HARMONICS = 237.0, 12
HUM_DB = 15.0  # of each harmonic, over the usual level around it
KINDS = ("tone", "noise", "impulses", "missing")
RATES_HZ = (3.0, 280.0)  # of impulses
SIX_DB = 0.25
FADE_S = 0.25


@dataclass(frozen=True)
class Case:
    """Sound, the added (or removed) part, the frequencies (Hz) at which it differs, and the rate of impulses, if any."""

    sound: F64
    change: F64
    low_hz: float
    high_hz: float
    rate_hz: float | None = None


class Normal:
    """The usual power between two frequencies, from clips (n, samples) of normal sound."""

    def __init__(self, clips: Sequence[F64]) -> None:
        self.clips = clips
        self._spectra = np.array([_spectrum(clip) for clip in clips])
        self._hz = np.fft.rfftfreq(len(clips[0]), 1 / RATE_HZ)

    def power_db(self, low_hz: float, high_hz: float) -> float:
        """The mean of the clips' power in dB."""
        inside = (self._hz >= low_hz) & (self._hz < high_hz)
        return float(np.mean(10.0 * np.log10(self._spectra[:, inside].sum(axis=1))))


def power_db(sound: F64, low_hz: float, high_hz: float) -> float:
    """The power of the sound between two frequencies, dB. All samples have equal weight, except for a fade at either end."""
    hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    return float(10.0 * np.log10(_spectrum(sound)[(hz >= low_hz) & (hz < high_hz)].sum()))


def _spectrum(sound: F64) -> F64:
    """The power of the whole sound at each frequency, faded so that a line does not leak into its neighbours."""
    window = np.ones(len(sound))
    n = round(FADE_S * RATE_HZ)
    window[:n] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / n)
    window[-n:] = window[:n][::-1]
    return np.asarray(2.0 * np.abs(np.fft.rfft(sound * window)) ** 2 / len(sound) / (window @ window))


def hum_levels_db(normal: Normal) -> list[float]:
    """The levels of a hum's harmonics in this sound, dB."""
    return [normal.power_db(0.98 * k * HUM_HZ, 1.02 * k * HUM_HZ) + HUM_DB for k in range(1, N_HARMONICS + 1)]


def hum(n: int, *, levels_db: Sequence[float], without: int | None = None) -> F64:
    """Harmonics with the given powers, dB."""
    t = np.arange(n) / RATE_HZ
    powers = 10.0 ** (np.array(levels_db) / 10.0)
    tones = (2.0 * np.sqrt(p) * np.sin(2 * np.pi * k * HUM_HZ * t + k) for k, p in enumerate(powers, 1) if k != without)
    return np.asarray(sum(tones), np.float64)


def missing_harmonic(clean: F64, levels_db: Sequence[float], draw: np.random.Generator) -> Case:
    """Clean sound plus a hum that lacks one harmonic."""
    gone = int(draw.integers(2, N_HARMONICS + 1))
    whole, left = (hum(len(clean), levels_db=levels_db, without=one) for one in (None, gone))
    return Case(clean + left, left - whole, gone * HUM_HZ, gone * HUM_HZ)


def added(kind: str, clean: F64, normal: Normal, limits_hz: F64, over_db: float, draw: np.random.Generator) -> Case:
    """Clean sound with an added difference, `over_db` above the usual power in its band."""
    n = len(clean)
    first = int(draw.integers(8, len(limits_hz) - 14))
    low_hz, high_hz, rate_hz = float(limits_hz[first]), float(limits_hz[first + 1]), None
    if kind == "tone":
        at_hz = draw.uniform(low_hz, high_hz)
        more = np.sin(2 * np.pi * at_hz * np.arange(n) / RATE_HZ)
    elif kind == "noise":
        low_hz, high_hz = draw.uniform(low_hz, high_hz), draw.uniform(*limits_hz[[first + 3, first + 10]])
        spectrum, hz_of = np.fft.rfft(draw.standard_normal(n)), np.fft.rfftfreq(n, 1 / RATE_HZ)
        more = np.fft.irfft(np.where((hz_of >= low_hz) & (hz_of < high_hz), spectrum, 0.0), n)
    else:
        rate_hz = float(np.exp(draw.uniform(*np.log(RATES_HZ))))
        more = _impulses(n, rate_hz, draw)
        low_hz, high_hz = _strongest(more, limits_hz)
    gain_db = normal.power_db(low_hz, high_hz) + over_db - power_db(more, low_hz, high_hz)
    change = 10.0 ** (gain_db / 20.0) * more
    return Case(clean + change, change, low_hz, high_hz, rate_hz)


def _impulses(n: int, rate_hz: float, draw: np.random.Generator) -> F64:
    """Resonances excited by impulses with 1 % jitter in time and 15 % variation in loudness."""
    at = (np.arange(1, int(n / RATE_HZ * rate_hz)) + draw.uniform() - 0.5) / rate_hz
    at += draw.normal(0.0, 0.01 / rate_hz, len(at))
    train = np.zeros(n)
    np.add.at(train, np.clip(np.rint(at * RATE_HZ).astype(int), 0, n - 1), draw.lognormal(0.0, 0.15, len(at)))
    t = np.arange(400) / RATE_HZ
    ringing = np.exp(-t / draw.uniform(0.001, 0.003)) * np.sin(2 * np.pi * draw.uniform(1500.0, 6500.0) * t)
    return np.asarray(np.convolve(train, ringing)[:n])


def _strongest(sound: F64, limits_hz: F64) -> tuple[float, float]:
    """The frequency range in which the power in bands is within 6 dB of that of the strongest band."""
    spectrum = np.abs(np.fft.rfft(sound)) ** 2
    at = np.searchsorted(np.fft.rfftfreq(len(sound), 1 / RATE_HZ), limits_hz)
    power = np.array([spectrum[start:stop].sum() for start, stop in pairwise(at)])
    low = high = int(np.argmax(power))
    while low > 0 and power[low - 1] >= SIX_DB * power.max():
        low -= 1
    while high < len(power) - 1 and power[high + 1] >= SIX_DB * power.max():
        high += 1
    return float(limits_hz[low]), float(limits_hz[high + 1])
