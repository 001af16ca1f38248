"""The cost of limiting the windows in an epoch (`training.max_windows`).

    python -m benchmarks.epochs [--hours 4] [--machines fan,gearbox] [--seeds 1]

Synthetic machines, recorded in clips of a minute, under the recipe `default`: every window in each epoch, against limits. AUC,
int8, of 40 normal clips of 10 s and 40 of each fault, at the severities at which `benchmarks.quality` found an AUC of 0.75 for
the plain autoencoder. The seconds are those of the training alone.
"""

import argparse
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.judging import auc, judge
from benchmarks.report import Table, make_parser, publish
from benchmarks.sounds.synthetic_machines import FAULTS_OF, N_CLIPS, frames_of, sound_of
from monitor.arrays import F32
from train.recipes.recipe import Recipe, load_recipe
from train.synth import MACHINES

SEVERITY_DB = {
    ("fan", "bearing"): -30.3,
    ("fan", "rubbing"): -23.9,
    ("pump", "bearing"): -24.5,
    ("pump", "cavitation"): -25.7,
    ("valve", "leak"): -46.2,
    ("valve", "rattle"): -34.4,
    ("gearbox", "bearing"): -29.5,
    ("gearbox", "rattle"): -25.5,
}


def main() -> None:
    """Print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--hours", type=float, default=4.0, help="of normal sound of each machine")
    parser.add_argument("--machines", default="fan,gearbox")
    parser.add_argument("--limits", default="250000", help="windows in an epoch, besides all")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    header = ["machine", "windows in an epoch", "training, s", "fault", "reconstruction", "fused"]
    publish([Table("AUC", header, measure(arguments))], arguments.json)


def measure(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """The rows of the table."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    recipe = load_recipe("default")
    limits = (None, *map(int, arguments.limits.split(",")))
    for machine in arguments.machines.split(","):
        for seed in range(arguments.seeds):
            yield from rows_of(machine, seed, recipe, arguments.hours, limits)


def rows_of(name: str, seed: int, recipe: Recipe, hours: float, limits: tuple[int | None, ...]) -> Iterator[list[str]]:
    """The rows of an individual."""
    from train.features.frames import WindowSet
    from train.networks.export import to_tflite
    from train.networks.networks import device_network
    from train.networks.training import fit_network, representative_windows

    machine = MACHINES[name](100 + seed)
    clips = [frames_of(sound_of(machine, take, seconds=60.0), recipe) for take in range(round(60 * hours))]
    normal = [frames_of(sound_of(machine, take), recipe) for take in range(10_000, 10_000 + N_CLIPS)]
    faulty: dict[str, list[F32]] = {fault: [] for fault in FAULTS_OF[name]}
    for fault, found in faulty.items():
        times = np.float32(10.0 ** (SEVERITY_DB[name, fault] / 20.0))
        for take in range(20_000, 20_000 + N_CLIPS):
            clean = sound_of(machine, take)
            found.append(frames_of(clean + times * (sound_of(machine, take, fault) - clean), recipe))
    windows = WindowSet(clips, n_frames=recipe.window.n_frames, hop_frames=recipe.window.hop_frames)
    nothing = WindowSet([], n_frames=recipe.window.n_frames, hop_frames=recipe.window.hop_frames)
    for limit in limits:
        limited = recipe.model_copy(update={"training": recipe.training.model_copy(update={"max_windows": limit})})
        quiet: tqdm[Any] = tqdm(disable=True)
        began_s = time.monotonic()
        network = device_network(fit_network(limited, windows, nothing, seed=seed, bar=quiet).model)
        seconds = time.monotonic() - began_s
        judged = judge(recipe, to_tflite(network, representative=representative_windows(recipe, windows)), clips)
        below = judged.scores(normal)
        for fault, found in faulty.items():
            above = judged.scores(found)
            values = [f"{auc(below[column], above[column]):.3f}" for column in ("reconstruction", "fused")]
            n_seen = min(len(windows), limit or len(windows))
            yield [f"{name} {seed}", f"{n_seen:,} of {len(windows):,}", f"{seconds:.0f}", fault, *values]


if __name__ == "__main__":
    main()
