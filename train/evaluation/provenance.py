"""The version of this project that an evaluation was made with."""

import subprocess
from pathlib import Path

from monitor import __version__

_HERE = Path(__file__).resolve()


def code_version(commit: str | None = None) -> str:
    """The given commit, else that of the checkout of this file, else the installed version."""
    return f"commit {found}" if (found := commit or _commit()) else f"stethos {__version__}"


def _commit() -> str | None:
    """The checkout's commit, marked as dirty where files differ; None where this file is not tracked by git."""
    if _git("ls-files", "--error-unmatch", _HERE.name) is None:
        return None
    return _git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=_HERE.parent, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
