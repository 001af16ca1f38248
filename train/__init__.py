"""Turn recordings of normal sound into a bundle, on a workstation."""

import ctypes
import os
from contextlib import suppress

# More BLAS threads double the CPU time and gain nothing at these sizes. NumPy reads this when it is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# glibc gives the top of the heap back after each tick, and the next tick takes it again, page by page: a third of the time.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt
with suppress(OSError, AttributeError, TypeError):  # another C library
    _libc = ctypes.CDLL(None)
    _libc.mallopt(_TRIM_THRESHOLD, 128 << 20)
    _libc.mallopt(_MMAP_THRESHOLD, 32 << 20)
