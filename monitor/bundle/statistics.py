"""`statistics.npz`: what a bundle knows of normal sound, as plain arrays (never pickle)."""

import io
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from monitor.core.bands import Expected
from monitor.core.errors import BundleError

_KEYS = ("expected_mean_db", "expected_spread_db")


def read_statistics(content: bytes, *, n_bands: int) -> Expected:
    """The expected spectrum of a bundle; BundleError names the array that is missing or has another shape."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            if not isinstance(arrays, NpzFile):
                raise BundleError("statistics must be an archive of arrays (.npz), got a single array")
            if set(arrays.files) != set(_KEYS):
                raise BundleError(f"statistics must hold {', '.join(_KEYS)}, got {', '.join(sorted(arrays.files)) or 'nothing'}")
            mean, spread = (np.asarray(arrays[key], np.float32) for key in _KEYS)
    except (OSError, ValueError, EOFError, TypeError, BadZipFile) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"statistics cannot be read: {error}") from error
    for key, array in zip(_KEYS, (mean, spread), strict=True):
        if array.shape != (n_bands,) or not np.isfinite(array).all():
            raise BundleError(f"statistics.{key} must be ({n_bands},) finite numbers, got {array.shape}")
    if not (spread > 0).all():
        raise BundleError(f"statistics.expected_spread_db must be above 0, got {spread.min():g}")
    return Expected(mean, spread)


def write_statistics(expected: Expected) -> bytes:
    """The bytes of `statistics.npz`; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, expected_mean_db=expected.mean_db, expected_spread_db=expected.spread_db)
    return buffer.getvalue()
