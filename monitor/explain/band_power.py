"""The power of a segment's samples in sharp bands, without leakage from neighbouring bands.

Frames are not selective enough. The filter of a mel band reaches over both its neighbours, and a window of 1,024 samples
spreads a tone over 31 Hz to either side, where a band may be 23 Hz wide. If the neighbouring band has a line that is 20 dB
louder, that line makes up most of the band's power. Here the window is long, and bands do not overlap.

Source: P. D. Welch, The use of fast Fourier transform for the estimation of power spectra, IEEE Trans. AU-15 (1967).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from monitor.arrays import F32, F64
from monitor.explain.envelope import Run, stretches

# Minimum number of FFT bins in the narrowest band. The window's main lobe reaches two bins to either side.
_BINS = 16.0
_SAMPLES = (256, 1 << 15)
# dB per hertz, relative to full scale: the noise of rounding to 16 bits at 16 kHz. A band below carries nothing.
FLOOR_DB = -140.0


def band_power_db(runs: Sequence[Run], limits_hz: F64, *, sample_rate_hz: int) -> F64:
    """Mean power per hertz (n_bands,), dB, at least `FLOOR_DB`, between limits (n_bands + 1,), of runs in chronological order.

    No window spans a gap. Where the longest stretch without a gap is shorter than the window, the window is shortened and
    the bands become less sharp.
    """
    longest = max(stop - start for start, stop in stretches(runs))
    n = min(n_window(limits_hz, sample_rate_hz), 1 << (longest.bit_length() - 1))
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n) / n)
    power, weight = np.zeros(n // 2 + 1), 0.0
    for part in _windows(runs, n):
        spectrum = np.fft.rfft(part * window)
        power += spectrum.real**2 + spectrum.imag**2
        weight += float(window @ window)
    below = np.concatenate(([0.0], np.cumsum(power)))
    edges_hz = (np.arange(len(below)) - 0.5) * sample_rate_hz / n
    density = np.diff(np.interp(limits_hz, edges_hz, below)) / np.diff(limits_hz) * 2.0 / (weight * n)
    return np.asarray(10.0 * np.log10(np.maximum(density, 10.0 ** (FLOOR_DB / 10.0))))


def n_window(limits_hz: F64, sample_rate_hz: int) -> int:
    """The window length in samples for bands between these limits (n_bands + 1,): a power of two."""
    needed = _BINS * sample_rate_hz / float(np.diff(limits_hz).min())
    return int(np.clip(2.0 ** np.ceil(np.log2(needed)), *_SAMPLES))


def _windows(runs: Sequence[Run], n: int) -> Iterator[F32]:
    """Stretches of n samples without a gap, each overlapping the previous one by half."""
    rest, stop = np.zeros(0, np.float32), 0
    for run in runs:
        rest = np.concatenate((rest, run.samples)) if run.start == stop else run.samples
        stop = run.stop
        while len(rest) >= n:
            yield rest[:n]
            rest = rest[n // 2 :]
