"""Slaney's mel scale and filters, as librosa defines them (`htk=False, norm="slaney"`).

Source: M. Slaney, Auditory Toolbox, Interval Research Technical Report 1998-010; librosa.filters.mel.
"""

import numpy as np

from monitor.arrays import F32, F64

_LINEAR_HZ_PER_MEL = 200.0 / 3
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def hz_to_mel(hz: float) -> float:
    """Hz to mel: linear below 1 kHz, logarithmic above."""
    if hz < _LOG_START_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return float(_LOG_START_MEL + np.log(hz / _LOG_START_HZ) / _LOG_STEP)


def mel_to_hz(mel: F64) -> F64:
    """Mel (n,) to Hz (n,), float64."""
    log = _LOG_START_HZ * np.exp(_LOG_STEP * (mel - _LOG_START_MEL))
    return np.where(mel < _LOG_START_MEL, mel * _LINEAR_HZ_PER_MEL, log)


def mel_edges_hz(*, n_mels: int, fmin_hz: float, fmax_hz: float) -> F64:
    """Edges (n_mels + 2,), Hz: band i rises from edge i, peaks at edge i + 1 and falls to edge i + 2."""
    return mel_to_hz(np.linspace(hz_to_mel(fmin_hz), hz_to_mel(fmax_hz), n_mels + 2))


def mel_filters(*, sample_rate_hz: int, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float) -> F32:
    """Triangular filters (n_mels, n_fft // 2 + 1), float32, each of equal area (Slaney norm)."""
    bins = np.fft.rfftfreq(n_fft, 1.0 / sample_rate_hz)
    edges = mel_edges_hz(n_mels=n_mels, fmin_hz=fmin_hz, fmax_hz=fmax_hz)
    width = np.diff(edges)
    ramps = edges[:, None] - bins[None, :]
    rising = -ramps[:-2] / width[:-1, None]
    falling = ramps[2:] / width[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    area = 2.0 / (edges[2:] - edges[:-2])
    return (triangles * area[:, None]).astype(np.float32)
