"""Array types used in the interfaces between modules."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
U32: TypeAlias = NDArray[np.uint32]
I8: TypeAlias = NDArray[np.int8]
Bool: TypeAlias = NDArray[np.bool_]


def runs(mask: Bool) -> list[slice]:
    """The runs of consecutive true values in a mask (n,)."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return [slice(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
