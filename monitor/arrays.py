"""Names for the array types that cross the seams."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
U32: TypeAlias = NDArray[np.uint32]
I8: TypeAlias = NDArray[np.int8]
Bool: TypeAlias = NDArray[np.bool_]


def runs(mask: Bool) -> list[slice]:
    """Where a mask (n,) is true in a row."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return [slice(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
