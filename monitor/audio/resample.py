"""Streaming resampling with soxr, in float32 only, so that the output does not depend on block sizes."""

import numpy as np
import soxr

from monitor.arrays import F32


class Resampler:
    """Converts a stream from one rate to another."""

    def __init__(self, *, from_hz: int, to_hz: int) -> None:
        self._stream = None
        if from_hz != to_hz:
            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")

    def push(self, samples: F32, *, last: bool = False) -> F32:
        """Resample samples (n,); return the samples (m,) that are ready. `last` flushes the filter."""
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples, last=last), np.float32)
