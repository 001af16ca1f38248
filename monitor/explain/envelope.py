"""The envelope spectrum: the modulation rates of sound, in equal carrier bands from 0 Hz to half the sample rate.

Source: R. B. Randall, J. Antoni, Rolling element bearing diagnostics, MSSP 25 (2011), section 4 (squared envelope spectrum).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from monitor.arrays import F32, F64

CARRIER_HZ = 1000.0  # approximate width of a carrier band
MAX_CARRIERS = 24
MIN_RATE_HZ = 2.0
_TOP = 0.62  # fraction of a carrier's width; the filters remove faster modulation
_STEP = 0.025  # relative spacing of pooled rates
_MIN_STEP_HZ = 0.5  # minimum spacing, because single lines of noise scatter widely
_TAPER = 0.15  # fraction of a carrier band over which it fades at either end
_BINS = 512  # per carrier in one transform: short transforms need little memory
# Values discarded at either end of 2 * _BINS. Sound outside has faded to -97 dB there.
_EDGE = 128
_MULTIPLE = 512  # lengths are multiples of this: they have small factors, so the transform is fast


@dataclass(frozen=True)
class Run:
    """Samples (n,), float32, without a gap. `start` is the index of the first one."""

    start: int
    samples: F32

    @property
    def stop(self) -> int:
        """One past the last sample."""
        return self.start + len(self.samples)


@dataclass(frozen=True)
class Envelope:
    """Power (n_carriers, n), relative to a white envelope of the same variance, in steps of `step_hz` from 0 Hz."""

    power: F64
    step_hz: float

    def pooled_db(self, rates_hz: F64) -> F32:
        """The strongest line between consecutive rates (n + 1,), dB: (n_carriers, n)."""
        at = np.rint(rates_hz / self.step_hz).astype(int)
        starts, stops = at[:-1], np.maximum(at[1:], at[:-1] + 1)
        found = [self.power[:, start:stop].max(axis=1) for start, stop in zip(starts, stops, strict=True)]
        return np.asarray(10.0 * np.log10(np.maximum(np.array(found).T, 1e-12)), np.float32)


def n_carriers(sample_rate_hz: int) -> int:
    """The number of carrier bands."""
    return int(min(MAX_CARRIERS, max(1, round(sample_rate_hz / 2 / CARRIER_HZ))))


@lru_cache
def pooled_rates_hz(sample_rate_hz: int) -> F64:
    """Limits (n + 1,), Hz, between which an envelope spectrum is pooled."""
    top = _TOP * sample_rate_hz / 2 / n_carriers(sample_rate_hz)
    rates = [MIN_RATE_HZ]
    while rates[-1] < top:
        rates.append(rates[-1] + max(_MIN_STEP_HZ, _STEP * rates[-1]))
    return np.array(rates[:-1])


def pooled_shape(sample_rate_hz: int) -> tuple[int, int]:
    """The shape (n_carriers, n_rates) of a pooled envelope spectrum."""
    return n_carriers(sample_rate_hz), len(pooled_rates_hz(sample_rate_hz)) - 1


def envelope_spectrum(runs: Sequence[Run], *, sample_rate_hz: int) -> Envelope:
    """The spectrum of the squared envelope in each carrier band, of runs of sound in chronological order; gaps are left out.

    Runs may be adjacent. The envelope of each stretch is divided by its mean, so that gain has no effect.
    """
    carriers = n_carriers(sample_rate_hz)
    # Sample rate of the envelopes: twice the width of a band, which is enough for its square.
    rate_hz = sample_rate_hz / carriers
    first = runs[0].start
    swell = _envelopes(runs, carriers)
    n = swell.shape[1]
    total, at = 0.0, 0
    for start, stop in stretches(runs):
        begin, end = round((start - first) / carriers), (stop - first) // carriers
        swell[:, at:begin] = 0.0  # ringing of the filters in a gap
        part, at = swell[:, begin:end], end
        window = np.hanning(part.shape[1] + 2)[1:-1].astype(np.float32)
        mean = part @ window / max(float(window.sum()), 1e-30)
        part /= np.maximum(mean, 1e-30)[:, None]
        part -= 1.0
        part *= window
        total += float(window @ window)
    swell[:, at:] = 0.0
    top = int(_TOP * n / 2) + 2
    power = np.empty((carriers, top))
    for one, row in zip(power, swell, strict=True):  # row by row, to save memory
        lines = np.fft.rfft(row.astype(np.float64))[:top]
        one[:] = (lines.real**2 + lines.imag**2) / max(total, 1e-12)
    return Envelope(power, rate_hz / n)


def stretches(runs: Sequence[Run]) -> Iterator[tuple[int, int]]:
    """The first and last sample of each stretch without a gap. Runs are in chronological order and may be adjacent."""
    start = runs[0].start
    for run, after in zip(runs, [*runs[1:], None], strict=True):
        if after is None or after.start != run.stop:
            yield start, run.stop
            start = run.stop if after is None else after.start


def _envelopes(runs: Sequence[Run], carriers: int) -> F32:
    """The squared envelope of each carrier band (carriers, n), one value every `carriers` samples, twice its width.

    Overlap-save: all bands of one transform in turn, without the values near its ends. n covers all runs, rounded up.
    """
    first, last = runs[0].start, runs[-1].stop
    n = -(-(last - first) // (carriers * _MULTIPLE)) * _MULTIPLE
    envelopes = np.zeros((carriers, n), np.float32)
    block = np.empty(2 * _BINS * carriers)
    inwards = np.minimum(np.arange(_BINS), _BINS - np.arange(_BINS)) / _BINS  # distance from the nearer end of a band
    fade = 0.5 - 0.5 * np.cos(np.pi * np.minimum(1.0, inwards / _TAPER))
    for at in range(0, n, 2 * (_BINS - _EDGE)):
        _fill(block, first + (at - _EDGE) * carriers, runs)
        bands = np.fft.rfft(block)[:-1].reshape(carriers, _BINS)
        analytic = np.fft.ifft(bands * fade, 2 * _BINS)[:, _EDGE : _EDGE + min(n - at, 2 * (_BINS - _EDGE))]
        np.add(analytic.real**2, analytic.imag**2, out=envelopes[:, at : at + analytic.shape[1]], casting="same_kind")
    return envelopes


def _fill(block: F64, start: int, runs: Sequence[Run]) -> None:
    """Copy the sound from sample `start` on into a block, with zeros for gaps."""
    block[:] = 0.0
    for run in runs:
        low, high = max(start, run.start), min(start + len(block), run.stop)
        if low < high:
            block[low - start : high - start] = run.samples[low - run.start : high - run.start]
