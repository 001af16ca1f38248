"""Child processes that run one of our modules."""

import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this process's import path. `-m` alone would import from the current folder first."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-c", code, *arguments]
