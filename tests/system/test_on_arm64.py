"""The device's tests and the demonstration in a Debian for 64-bit ARM, under an emulator, and the same numbers as on x86-64."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.replay.command import monitor
from tests.system import scoring_numbers
from tests.system.debian import ARM64_PARTS, arm64_with_tests, inside
from train.synth import MACHINES, Scene

pytestmark = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="minutes; with scripts/test --long")

CLEAN = "env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin"
OFFLINE = "PIP_NO_INDEX=1 PIP_FIND_LINKS=/opt/wheels"  # the wheels that the system's pip has accepted
MAX_FRAME_OFF_DB, MAX_SCORE_OFF = 2e-5, 1e-5  # the latter relative
Run = Callable[..., str]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree, to which emulated programs may write."""
    folder = tmp_path_factory.mktemp("arm64") / "source"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".*cache", ".venvs", "__pycache__", "dist", "site"))
    return folder


@pytest.fixture(scope="module")
def run(source: Path) -> Iterator[Run]:
    """Run a command that must succeed in the copy of the working tree, on 64-bit ARM. Returns its output."""
    with arm64_with_tests() as layers:

        def run(command: str, *, core: str = "cortex-a53") -> str:
            with tempfile.TemporaryDirectory(dir=source.parent) as changes:
                script = f"cd /mnt; {CLEAN} QEMU_CPU={core} {command} >output 2>&1 || {{ tail -n 60 output; exit 1; }}"
                inside(script, Path(changes), *layers, mounted=source, core=core)
            return (source / "output").read_text()

        yield run


@pytest.mark.parametrize("room", ["scoring", "explain", "events", "bundle", "replay"])
def test_the_tests_of_the_device_pass(room: str, run: Run, record_property: Callable[[str, object], None]) -> None:
    options = "-vv -n 2 --dist loadfile -p no:cacheprovider"
    output = run(f"EMULATED=1 EXPECT_RUNTIME=ai-edge-litert /opt/tests/bin/python -m pytest {options} tests/{room}")
    result = output.splitlines()[-1]
    assert re.search(r"\d{2,} passed", result)
    record_property("figures", result.strip("= "))


def test_the_demonstration_gives_the_same_events(run: Run, source: Path, demo_bundle: Path) -> None:
    """`scripts/demo` as it is, with the environment that it sets up."""
    run(f"{OFFLINE} scripts/demo")
    there = [json.loads(line) for line in (source / ".venvs" / "demo.jsonl").read_text().splitlines()]
    here = monitor("--replay", ROOT / "demo/fan-normal.flac", ROOT / "demo/fan-bearing.flac", "--model", demo_bundle).lines
    assert texts(there) == texts(here) != []


def texts(lines: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """What events say."""
    return [(line["id"], line["event_type"], line["summary"]) for line in lines if "event_type" in line]


@pytest.mark.parametrize("core", ARM64_PARTS)
def test_frames_and_scores_are_those_of_x86_64_but_for_rounding(
    run: Run, source: Path, core: str, record_property: Callable[[str, object], None]
) -> None:
    """The Fourier transform and the products with the mel filters add in another order, see docs/decisions/0047."""
    if not (source / "sound.npy").exists():
        scenes = [Scene(machine=machine(0), take=50).chunks(20.0) for machine in MACHINES.values()]
        np.save(source / "sound.npy", np.concatenate([part for scene in scenes for part in scene]))
    here = scoring_numbers.numbers(np.load(source / "sound.npy"))
    run("/opt/tests/bin/python -m tests.system.scoring_numbers sound.npy numbers.npz", core=core)
    with np.load(source / "numbers.npz") as there:
        assert set(there) == set(here)
        offs = {name: np.abs(there[name] - here[name]) / (np.abs(here[name]) if "scores" in name else 1.0) for name in here}
    shares = {name: np.mean(off > 0) for name, off in offs.items()}
    record_property("figures", f"{core}: " + ", ".join(f"{n} {np.nanmax(off):.1e} ({shares[n]:.1%})" for n, off in offs.items()))
    for name, off in offs.items():
        assert np.nanmax(off) < (MAX_SCORE_OFF if "scores" in name else MAX_FRAME_OFF_DB), name
