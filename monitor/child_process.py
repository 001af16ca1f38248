"""The command that runs one of our modules in a child process."""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[1])
_START = (
    "import sys; root, module = sys.argv[1:3]; del sys.argv[1:3]; root in sys.path or sys.path.insert(0, root); "
    "import runpy; runpy.run_module(module, run_name='__main__', alter_sys=True)"
)


def child_command(module: str, *arguments: str) -> list[str]:
    """The command for `python -m MODULE ARGUMENTS`, which never imports from the current folder, unlike `-m`.

    The isolated mode also ignores PYTHONPATH and the user's site-packages, so the child is told the folder from which this
    process imported `monitor`. Both run the same code.
    """
    return [sys.executable, "-I", "-c", _START, _ROOT, module, *arguments]
