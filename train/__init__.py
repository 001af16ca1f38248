"""Turn recordings of normal sound into a bundle, on a workstation."""

import ctypes
import os
from contextlib import suppress

# More threads double the CPU time and gain nothing at these sizes. NumPy and scikit-learn read this when they are first imported.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# glibc gives the top of the heap back after each tick, and the next tick takes it again, page by page: a third of the time.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt
with suppress(OSError, AttributeError, TypeError):  # another C library
    _libc = ctypes.CDLL(None)
    _libc.mallopt(_TRIM_THRESHOLD, 128 << 20)
    _libc.mallopt(_MMAP_THRESHOLD, 32 << 20)
