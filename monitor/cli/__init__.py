"""The `monitor` command, one module per subcommand. It may import every other package."""

import os

# More BLAS threads double the CPU time and gain nothing at these sizes. NumPy reads this when it is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
