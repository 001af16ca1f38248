"""The command `train`: one module per subcommand; `add` declares it, `_run` runs it."""

import sys

from monitor.command_line import python_problem

if (problem := python_problem()) is not None:  # before anything that an old Python cannot read
    sys.exit(f"train: error: {problem}")
