"""TensorFlow Lite's affine quantisation between float and int8: real = (q - zero_point) * scale."""

from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32, I8


@dataclass(frozen=True)
class Quantisation:
    """Scale and zero point of a tensor (https://ai.google.dev/edge/litert/models/quantization_spec)."""

    scale: np.float32
    zero_point: int

    def quantise(self, values: F32) -> I8:
        """float32 to int8, same shape. Values are rounded, then clipped. Truncation would change half of the codes."""
        codes = values / self.scale
        codes += np.float32(self.zero_point)
        np.rint(codes, out=codes)
        codes.clip(-128, 127, out=codes)
        return codes.astype(np.int8)

    def dequantise(self, codes: I8) -> F32:
        """int8 to float32, same shape."""
        values = codes.astype(np.float32)
        values -= np.float32(self.zero_point)
        values *= self.scale
        return values
