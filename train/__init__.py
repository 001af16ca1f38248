"""Turn recordings of normal sound into a bundle, on a workstation."""

import os

# More BLAS threads double the CPU time and gain nothing at these sizes. NumPy reads this when it is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
