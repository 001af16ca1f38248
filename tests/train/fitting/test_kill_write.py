"""A bundle is replaced whole or not at all, whatever ends the process that writes it."""

import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from monitor import files as replace
from monitor.bundle import load_bundle
from monitor.bundle.manifest import read_manifest
from monitor.bundle.write import amended, write_bundle

STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "ctypes.dlsym"}


def write_again(out: Path) -> None:
    """The next version of it."""
    old = read_manifest(out)
    files = {name: (out / name).read_bytes() for name in ("model.tflite", "statistics.npz")}
    provenance = old.provenance.model_copy(update={"seed": version(out) + 1})
    write_bundle(out, files, amended(old, provenance=provenance))


def version(out: Path) -> int:
    """Kept as the seed; BundleError where the bundle is not whole."""
    return load_bundle(out).manifest.provenance.seed or 0


def killed_at_each_step(out: Path) -> None:
    """Write again and again, each time in a process that is killed one step later; prints the version after each."""
    for n_steps in range(1000):
        child = os.fork()
        if child == 0:
            left = n_steps

            def step(event: str, _: tuple[Any, ...]) -> None:
                nonlocal left
                if event in STEPS and (left := left - 1) < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(step)
            write_again(out)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(version(out))
        if os.WIFEXITED(status):
            return


@pytest.fixture
def bundle(demo_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_bundle, tmp_path / "models" / "demo-fan"))


def test_killed_at_any_step_it_is_the_old_bundle_or_the_new_one(bundle: Path) -> None:
    code = "import sys; from tests.train.fitting.test_kill_write import *; killed_at_each_step(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, text=True, check=True)
    versions = [int(line) for line in done.stdout.split()]
    assert len(versions) > 20
    assert all(after - before in (0, 1) for before, after in pairwise(versions))
    assert 0 == versions[0] < versions[-1]  # killed once it had changed places, and not at all


def test_where_places_cannot_be_changed_at_once_it_is_moved_aside(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replace, "_exchange", lambda one, other: False)
    write_again(bundle)
    assert version(bundle) == 1
    assert [path.name for path in bundle.parent.iterdir()] == ["demo-fan"]
