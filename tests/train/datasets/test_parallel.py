"""Work on all cores: NumPy must not start threads of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_numpy_on_several_threads_is_reported_once() -> None:
    code = (
        "import numpy; from train.datasets.parallel import in_parallel\n"
        "for _ in range(2): list(in_parallel(len, ['ab'], workers=1, bar='x'))"
    )
    found = {}
    for n in ("1", "2"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": n}
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=True
        )
        found[n] = [line for line in run.stderr.splitlines() if "threads" in line]
    assert found["1"] == []
    several = ["train: warning: NumPy computes on 2 threads, at many times the CPU time: import train before NumPy, or set "]
    assert found["2"] == ([f"{several[0]}OPENBLAS_NUM_THREADS=1"] if (os.cpu_count() or 1) > 1 else [])
