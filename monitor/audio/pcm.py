"""Convert device samples to float32 with full scale [-1, 1]."""

import numpy as np

from monitor.arrays import F32
from monitor.audio.ring import SAMPLE_BYTES, SoundFormat


def to_float(data: bytes, form: SoundFormat) -> F32:
    """Interleaved samples as an array (n, n_channels). Non-finite samples of a float device become 0."""
    if form.sample_format == "int16":
        flat = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(1 << 15)
    elif form.sample_format == "int24":
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        flat = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
    elif form.sample_format == "int32":
        flat = np.frombuffer(data, "<i4").astype(np.float32) / np.float32(1 << 31)
    else:
        flat = np.frombuffer(data, "<f4").astype(np.float32)
        flat[~np.isfinite(flat)] = 0.0
    frames: F32 = flat.reshape(-1, form.n_channels)
    return frames


def mono(data: bytes, form: SoundFormat, channel: int | None) -> F32:
    """One channel (counted from 1) of interleaved samples, (n,); None takes the mean of all channels."""
    if channel is None:
        return np.array(to_float(data, form).mean(axis=1), np.float32)
    size = SAMPLE_BYTES[form.sample_format]
    of_channel = np.frombuffer(data, np.uint8).reshape(-1, form.n_channels, size)[:, channel - 1].tobytes()
    return to_float(of_channel, form._replace(n_channels=1))[:, 0]
