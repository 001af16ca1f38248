"""The on-device daemon: listens to a machine and tells over MQTT when its sound changes."""

import os

__version__ = "0.2.0"

# More BLAS threads double the CPU spent and gain nothing at these sizes. Read when NumPy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
