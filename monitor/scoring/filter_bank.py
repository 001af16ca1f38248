"""Bands of a spectrum: mel filters, or equal runs of FFT bins."""

from typing import Protocol

import numpy as np

from monitor.arrays import F32

_MAX_BINS = 256  # per matrix product


class Bands(Protocol):
    """Pools a spectrum (m, n_fft // 2 + 1), float32, into bands (m, n_bands), float32."""

    def __call__(self, spectrum: F32) -> F32:
        """Pool the rows."""
        ...


class MelBands:
    """Weighted sums by mel filters (n_mels, n_bins).

    The sum is computed in short products. A BLAS splits a long product into blocks whose size depends on its version, which
    changes the last bits of the sum. Most of the whole matrix is zero.
    """

    def __init__(self, filters: F32) -> None:
        self._n_mels = len(filters)
        self._parts: list[tuple[slice, slice, F32]] = []  # bins, the bands that they contribute to, weights (n_bins, n_bands)
        for first in range(0, filters.shape[1], _MAX_BINS):
            bins = slice(first, min(first + _MAX_BINS, filters.shape[1]))
            reached = np.flatnonzero(filters[:, bins].any(axis=1))
            if len(reached):
                bands = slice(int(reached[0]), int(reached[-1]) + 1)
                self._parts.append((bins, bands, np.ascontiguousarray(filters[bands, bins].T)))

    def __call__(self, spectrum: F32) -> F32:
        """Weighted sums (m, n_mels)."""
        mel = np.zeros((len(spectrum), self._n_mels), np.float32)
        for bins, bands, weights in self._parts:
            mel[:, bands] += spectrum[:, bins] @ weights
        return mel


class EqualBands:
    """Means of equal runs of the first n_fft // 2 bins. The last bin, at half the rate, is left out."""

    def __init__(self, *, n_bins: int, width: int) -> None:
        self._n_bins = n_bins
        self._width = width

    def __call__(self, spectrum: F32) -> F32:
        """Means (m, n_bins)."""
        used = spectrum[:, : self._n_bins * self._width]
        if self._width == 1:
            return used
        return np.asarray(used.reshape(len(used), self._n_bins, self._width).mean(axis=2))
