"""The `monitor` command, one module per subcommand. It may import every other package."""

import os

# More BLAS threads double the CPU time without any speed-up at these sizes. NumPy reads this when it is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
