"""Instructions that scoring takes on 64-bit ARM, counted in an emulator, and an estimate for Raspberry Pis made from them.

    python -m benchmarks.speed.arm

Needs root, the Debian packages of `scripts/test --long`, and qemu-user, whose emulator can count. The Debian system for 64-bit
ARM is the one of the tests, with the pinned wheels of NumPy and LiteRT for that processor.

Work: a replay's monitor on samples in memory, as in `benchmarks.speed.replay`, with the plain bundle (models/demo-fan) and one of
the recipe `default`, trained for one epoch. The emulator counts the instructions of a whole process; the difference between two
lengths of sound is free of start-up. It emulates each board's core, because NumPy, OpenBLAS and LiteRT choose their code by it.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Table, make_parser, publish
from benchmarks.speed.quick_bundle import ROOT, train_bundle
from benchmarks.speed.replay import MINUTES, RATE_HZ
from tests.conftest import need
from tests.system.debian import PYTHON, arm64_with_tests, cpuinfo
from train.synth import Fan, Scene

SHORT_MIN, LONG_MIN = 1, 4
USED = (0.5, 0.25)  # of the decode width
PLUGIN = Path(__file__).with_name("count_instructions.c")
PUSH = """
import sys
import numpy as np
from monitor.block import Block
from monitor.bundle import load_bundle
from monitor.monitor import Monitor

bundle, sound, minutes = sys.argv[1:]
monitor = Monitor(load_bundle(bundle))
samples = np.load(sound)[: int(minutes) * 60 * monitor.sample_rate_hz]
assert any(result.tick.score for result in monitor.push(Block(0, samples)))
"""


@dataclass(frozen=True)
class Core:
    """A core of Arm's. `width` is the number of instructions that it can decode in a cycle."""

    name: str
    width: int
    boards: dict[str, float]  # clock rate, GHz


CORES = (
    Core("Cortex-A53", 2, {"Pi Zero 2 W": 1.0}),
    Core("Cortex-A72", 3, {"Pi 4, first revisions": 1.5, "Pi 4": 1.8}),
    Core("Cortex-A76", 4, {"Pi 5": 2.4}),
)
HEADER = ["core, bundle", "instructions an hour of sound", "start-up", "board, GHz", "estimate: CPU s an hour", "% of a core"]
ASSUMED = (
    "The instructions are counted; seconds and percent are an estimate, not a measurement. They take the published "
    "clock rate (Raspberry Pi's product briefs) and decode width (2, 3 and 4 instructions a cycle: Arm's reference "
    "manual of the Cortex-A53, its optimization guides for Cortex-A72 and A76), and assume that between a half and "
    "a quarter of that width is used, waiting for memory included. The kernel is left out, and what the service "
    "does besides scoring: capture, resampling, MQTT, the page."
)


def main() -> None:
    """Print the table."""
    arguments = make_parser(__doc__).parse_args()
    publish([Table("instructions", HEADER, counted()), ASSUMED], arguments.json)


def counted() -> Iterator[list[str]]:
    """The rows of the table."""
    need(shutil.which("qemu-aarch64") is not None and shutil.which("gcc") is not None, "qemu-user and gcc")
    with tempfile.TemporaryDirectory() as name, arm64_with_tests() as (environment, system):
        folder = Path(name)
        samples = np.concatenate(list(Scene(machine=Fan(0), take=50).chunks(60.0 * MINUTES)))
        np.save(folder / "sound.npy", samples)
        train_bundle("default", samples, folder, rate_hz=RATE_HZ)
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", folder / "plugin.so", PLUGIN], check=True)
        emulator = Emulator(folder, system, environment / f"opt/tests/lib/python{PYTHON}/site-packages")
        bundles = {"plain": ROOT / "models" / "demo-fan", "default": folder / "default"}
        for core in CORES:
            for bundle, path in bundles.items():
                yield from rows_of(core, bundle, *emulator.count_both(core, path))


def rows_of(core: Core, bundle: str, per_hour: float, start_up: float) -> Iterator[list[str]]:
    """The count and the estimates of each board with this core."""
    for board, ghz in core.boards.items():
        seconds = [per_hour / (ghz * 1e9 * core.width * used) for used in USED]
        estimate = " - ".join(f"{s:.1f}" for s in seconds)
        percent = " - ".join(f"{s / 36:.2f}" for s in seconds)
        counts = [f"{per_hour / 1e9:.2f}e9", f"{start_up / 1e9:.2f}e9"]
        yield [f"{core.name}, {bundle}", *counts, f"{board}, {ghz:g}", estimate, percent]


@dataclass(frozen=True)
class Emulator:
    """Runs Python programs of the ARM system, without chroot, and counts their instructions."""

    folder: Path
    system: Path
    packages: Path

    def count_both(self, core: Core, bundle: Path) -> tuple[float, float]:
        """Instructions an hour of sound, and those before the first sample."""
        short, long = (self.count(core, bundle, minutes) for minutes in (SHORT_MIN, LONG_MIN))
        per_minute = (long - short) / (LONG_MIN - SHORT_MIN)
        return 60 * per_minute, short - SHORT_MIN * per_minute

    def count(self, core: Core, bundle: Path, minutes: int) -> int:
        """Instructions of a process that scores so much sound."""
        root = self._root(core)
        plugin, counted = self.folder / "plugin.so", self.folder / "counted"
        options = ["-cpu", core.name.lower(), "-L", root, "-plugin", plugin, "-d", "plugin", "-D", counted]
        python = [root / f"usr/bin/python{PYTHON}", "-c", PUSH, bundle, self.folder / "sound.npy", str(minutes)]
        environment = {"PYTHONPATH": f"{ROOT}:{self.packages}", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        environment["OPENBLAS_NUM_THREADS"] = "1"
        command = list(map(str, ["qemu-aarch64", *options, *python]))
        subprocess.run(command, env={**os.environ, **environment}, check=True)
        return int(counted.read_text())

    def _root(self, core: Core) -> Path:
        """A folder where the emulator finds the system's files, and what the kernel would report of this core."""
        root = self.folder / core.name
        if not root.exists():
            (root / "proc").mkdir(parents=True)
            (root / "proc" / "cpuinfo").write_text(cpuinfo(core.name.lower()))
            for name in ("etc", "lib", "usr"):
                (root / name).symlink_to(self.system / name)
        return root


if __name__ == "__main__":
    main()
