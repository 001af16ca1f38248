"""What scripts/package builds, once in a run of tests."""

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, need

Build = Callable[[str], Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build("amd64")` is the folder with the Debian package. Workers of one run share it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def build(kind: str) -> Path:
        need((ROOT / "monitor/web/static/index.html").exists(), "the page (scripts/make-page)")
        folder = shared / f"package-{kind}"
        with (shared / "package.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                new = folder.with_suffix(".new")
                command, environment = [str(ROOT / "scripts" / "package"), kind], {**os.environ, "OUT": str(new)}
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
                new.rename(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def deb(build: Build) -> Path:
    """The Debian package for this computer."""
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    return next(build(architecture).glob("*.deb"))
