"""The envelope spectrum: how often a second the sound swells, in equal carrier bands from 0 Hz to half the rate.

Source: R. B. Randall, J. Antoni, Rolling element bearing diagnostics, MSSP 25 (2011), section 4 (squared envelope spectrum).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from monitor.core.arrays import F32, F64

CARRIER_HZ = 1000.0  # about how wide a carrier band is
MAX_CARRIERS = 24
MIN_RATE_HZ = 2.0
_TOP = 0.62  # of a carrier's width: beyond it little is left of a modulation
_STEP = 0.025  # from one pooled rate to the next, as a share of it
_LEAST_HZ = 0.5  # but at least so much: a single line of noise scatters widely
_TAPER = 0.15  # share of a carrier band at either end over which it fades


@dataclass(frozen=True)
class Run:
    """Samples (n,), float32, without a gap; `start` is the index of the first."""

    start: int
    samples: F32


@dataclass(frozen=True)
class Envelope:
    """Power (n_carriers, n), against a white envelope of the same variance 1, every `step_hz` from 0 Hz on."""

    power: F64
    step_hz: float

    def pooled_db(self, rates_hz: F64) -> F32:
        """The strongest line between each two rates (n + 1,), dB: (n_carriers, n)."""
        at = np.rint(rates_hz / self.step_hz).astype(int)
        starts, stops = at[:-1], np.maximum(at[1:], at[:-1] + 1)
        found = [self.power[:, start:stop].max(axis=1) for start, stop in zip(starts, stops, strict=True)]
        return np.asarray(10.0 * np.log10(np.maximum(np.array(found).T, 1e-12)), np.float32)


def n_carriers(sample_rate_hz: int) -> int:
    """How many carrier bands there are."""
    return int(min(MAX_CARRIERS, max(1, round(sample_rate_hz / 2 / CARRIER_HZ))))


@lru_cache
def pooled_rates_hz(sample_rate_hz: int) -> F64:
    """Limits (n + 1,), Hz, between which an envelope spectrum is pooled."""
    top = _TOP * sample_rate_hz / 2 / n_carriers(sample_rate_hz)
    rates = [MIN_RATE_HZ]
    while rates[-1] < top:
        rates.append(rates[-1] + max(_LEAST_HZ, _STEP * rates[-1]))
    return np.array(rates[:-1])


def pooled_shape(sample_rate_hz: int) -> tuple[int, int]:
    """Of a pooled envelope spectrum: (n_carriers, n_rates)."""
    return n_carriers(sample_rate_hz), len(pooled_rates_hz(sample_rate_hz)) - 1


def envelope_spectrum(runs: Sequence[Run], *, sample_rate_hz: int) -> Envelope:
    """The squared envelope's spectrum in each carrier band, of runs of sound in order of time; in between nothing is known.

    Each run's envelope is taken against its own mean, so that neither a gain nor a slower band counts.
    """
    carriers = n_carriers(sample_rate_hz)
    width_hz = sample_rate_hz / 2 / carriers
    rate_hz = 2.0 * width_hz  # of the envelopes: enough for the square of a band so wide
    first, last = runs[0].start, runs[-1].start + len(runs[-1].samples)
    n = int((last - first) / sample_rate_hz * rate_hz)
    spectra = [np.fft.rfft(run.samples) for run in runs]
    starts = [round((run.start - first) / sample_rate_hz * rate_hz) for run in runs]
    top = int(_TOP * width_hz / rate_hz * n) + 2
    power = []
    for carrier in range(carriers):  # one at a time, to spare memory
        swell, total = np.zeros(n), 0.0
        for start, spectrum in zip(starts, spectra, strict=True):
            envelope = _envelope(spectrum, carrier, carriers)[: n - start]
            window = np.hanning(len(envelope) + 2)[1:-1]
            mean = max(float(envelope @ window) / float(window.sum()), 1e-30)
            swell[start : start + len(envelope)] = (envelope / mean - 1.0) * window
            total += float(window @ window)
        lines = np.fft.rfft(swell)[:top]
        power.append((lines.real**2 + lines.imag**2) / max(total, 1e-12))
    return Envelope(np.array(power), rate_hz / n)


def _envelope(spectrum: NDArray[np.complexfloating], carrier: int, carriers: int) -> F64:
    """The squared envelope (about len / carriers,) of one carrier band of a run, sampled at twice the band's width."""
    n = (len(spectrum) - 1) // carriers
    fade = 0.5 - 0.5 * np.cos(np.pi * np.minimum(1.0, (np.arange(n) + 0.5) / (_TAPER * n)))
    analytic = np.fft.ifft(spectrum[carrier * n : (carrier + 1) * n] * (fade * fade[::-1]), 2 * n)
    return np.asarray(analytic.real**2 + analytic.imag**2, np.float64)
