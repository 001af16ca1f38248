"""CPU time of `train fit` and `train evaluate`, by phase, and an estimate for 100 hours.

    python -m benchmarks.speed.fit [--hours 2 10] [--test-minutes 60]

Sound: `train synth`, 16 kHz, FLAC, 10 s clips, as in `benchmarks.speed.features`, under the recipe `default` with one epoch.
CPU is user + system time. The network is its training, with TensorFlow's import, and its export. The floor decodes the sound
once and computes its frames in this process, on one BLAS thread. The bundle is then evaluated on clips that it was not trained
on. Two numbers of hours give an estimate of 100 hours and 30 epochs on two free cores: outside the network CPU time grows with
the sound, in it with the windows that an epoch sees, at most `training.max_windows`.
"""

import os

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks.report import Table, make_parser, publish
from benchmarks.speed.features import CLIP_S, MINUTES, RATE_HZ, ROOT, status, write_clips
from benchmarks.speed.quick_bundle import write_recipe
from train.datasets import pieces, read_dataset
from train.features.frames import piece_frames
from train.recipes.recipe import load_recipe
from train.synth import Fan, Scene

NETWORK = {"fit_network", "device_network", "to_tflite"}
PHASES = (
    "survey",
    "cached_frames",
    "sha256",
    "measure_pieces",
    "fit_in_folds",
    "calibrate",
    "expected_of",
    "write_bundle",
    "evaluate",
    "write_report",
)
HOURS, EPOCHS = 100, 30
HEADER = ["", "hours", "CPU s outside the network", "in it", "in workers", "wall s", "VmHWM MB", "CPU s by phase"]


def main() -> None:
    """Print the table and the estimate."""
    parser = make_parser(__doc__)
    parser.add_argument("--hours", type=float, nargs="+", default=[2.0, 10.0], help="of sound to train on")
    parser.add_argument("--test-minutes", type=float, default=60.0, help="of sound to evaluate on")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run(arguments.child)))
        return
    sentences: list[str] = []
    publish(chain([Table("CPU time", HEADER, measure(arguments, sentences))], sentences), arguments.json)


def measure(arguments: argparse.Namespace, sentences: list[str]) -> Iterator[list[object]]:
    """The rows of the table. What else there is to say is added to `sentences`."""
    samples = np.concatenate(list(Scene(machine=Fan(0), take=50).chunks(60.0 * MINUTES)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = write_recipe("default", folder / "recipe.yaml", epochs=arguments.epochs)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        test = write_clips(folder / "test", samples, n=round(arguments.test_minutes * 60 / CLIP_S))
        sentences.append(f"floor, decode and compute frames once: {floor(test):.2f} CPU s an hour of sound")
        found = []
        for hours in arguments.hours:
            clips = write_clips(folder / f"{hours:g}", samples, n=round(hours * 3600 / CLIP_S))
            bundle = folder / "bundle"
            found.append(child("fit", str(clips), "--recipe", str(recipe), "--out", str(bundle)))
            yield row("fit", hours, found[-1])
        if len(found) > 1:
            sentences.append(estimate(*arguments.hours[:2], *found[:2], n_epochs=arguments.epochs))
        evaluated = child("evaluate", str(bundle), str(test), "--out", str(folder / "report"))
        yield row("evaluate", arguments.test_minutes / 60, evaluated)


def floor(folder: Path) -> float:
    """CPU seconds an hour of sound: decode once, compute frames."""
    clips, recipe = pieces(read_dataset(folder).clips, sample_rate_hz=RATE_HZ)[:60], load_recipe("default")
    best = min(
        cpu_s(lambda: [piece_frames(one, recipe.front_end, tick_frames=recipe.tick_frames) for one in clips]) for _ in range(3)
    )
    return best * 3600 / (CLIP_S * len(clips))


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def row(name: str, hours: float, found: dict[str, float]) -> list[object]:
    """A row of the table."""
    network = sum(found[one] for one in NETWORK)
    phases = ", ".join(f"{one} {found[one]:.1f}" for one in PHASES if found[one] >= 0.05)
    cpu_s = [f"{found['cpu'] - network:.1f}", f"{network:.1f}", f"{found['workers']:.1f}"]
    return [f"train {name}", f"{hours:g}", *cpu_s, f"{found['wall']:.0f}", f"{found['hwm']:.0f}", phases]


def estimate(low: float, high: float, one: dict[str, float], two: dict[str, float], *, n_epochs: int) -> str:
    """The wall time of 100 hours on two free cores, which share the workers and the network."""
    recipe = load_recipe("default")
    hop_s, most, held_out = recipe.tick_s / recipe.tick_frames, recipe.training.max_windows or 0, recipe.training.held_out

    def seen(hours: float) -> float:
        """Windows in an epoch of both networks."""
        return sum(min(share * hours * 3600 / hop_s, most) for share in (1.0, 1.0 - held_out))

    def at(hours: float, key: Callable[[dict[str, float]], float]) -> float:
        return key(one) + (key(two) - key(one)) * (hours - low) / (high - low)

    def network(row: dict[str, float]) -> float:
        return sum(row[name] for name in NETWORK)

    a_window = (network(two) - network(one)) / (n_epochs * (seen(high) - seen(low)))
    outside, workers = at(HOURS, lambda row: row["cpu"] - network(row)), at(HOURS, lambda row: row["workers"])
    trained = network(one) + a_window * (EPOCHS * seen(HOURS) - n_epochs * seen(low))
    minutes = (outside + (workers + trained) / 2) / 60
    return (
        f"estimate for {HOURS} h, {EPOCHS} epochs, two free cores: {minutes:.0f} min; CPU min: outside {outside / 60:.1f}, "
        f"workers {workers / 60:.1f}, network {trained / 60:.1f}"
    )


def child(*arguments: str) -> dict[str, float]:
    """The measurements of a command in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed.fit", "--child", *arguments]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    return dict(json.loads(out.splitlines()[-1]))


def run(arguments: list[str]) -> dict[str, float]:
    """Run `train` in this process. Returns CPU seconds by phase, with everything that a phase calls, and memory, MB."""
    from train.cli.main import main as train

    profile, began, start_s = cProfile.Profile(time.process_time), time.perf_counter(), time.process_time()
    failed = profile.runcall(train, arguments)
    cpu, wall = time.process_time() - start_s, time.perf_counter() - began
    if failed:
        sys.exit(failed)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = dict.fromkeys((*PHASES, *NETWORK), 0.0)
    for (_, _, name), (_, _, _, total_s, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if name in found:
            found[name] += total_s
    return found | {
        "cpu": cpu,
        "wall": wall,
        "workers": children.ru_utime + children.ru_stime,
        "hwm": status("VmHWM"),
    }


if __name__ == "__main__":
    main()
