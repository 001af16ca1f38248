"""Part of the quality benchmark: synthetic machines, with faults at which the plain autoencoder has an AUC of 0.75.

`train synth`: for every machine, 40 clips of 10 s to learn from, 40 normal clips to score, and 40 with each fault. Each clip
is a separate recording (with a different flow, state, or place in the schedule). Each seed is a different individual in a
different room, and different weights.
"""

import os
from dataclasses import dataclass

import numpy as np

from benchmarks.judging import auc, row_label, train_judges
from monitor.arrays import F32
from monitor.block import Block
from monitor.scoring.frames import stream_frames
from train.recipes.recipe import Recipe, load_recipe
from train.synth import MACHINES, Growth, Machine, Scene

N_CLIPS = 40
SECONDS = 10.0
PLAIN, OURS = "mimii-mel", "default"
AT_AUC = 0.75
SEVERITIES_DB = (-60.0, 12.0)
HALVINGS = 10
FAULTS_OF = {
    "fan": ("bearing", "rubbing"),
    "pump": ("bearing", "cavitation"),
    "valve": ("leak", "rattle"),
    "gearbox": ("bearing", "rattle"),
}


@dataclass(frozen=True)
class SyntheticJob:
    """An individual machine."""

    machine: str
    seed: int


@dataclass(frozen=True)
class SyntheticResult:
    """AUC, int8, by fault and then by column, at a severity in dB."""

    job: SyntheticJob
    severity_db: dict[str, float]
    auc: dict[str, dict[str, float]]


def renamed(parts: str) -> str:
    """For `type=`: a list of parts in which `made`, an older name, may stand for `synthetic`."""
    return parts.replace("made", "synthetic")


def run_synthetic(job: SyntheticJob) -> SyntheticResult:
    """Learn a machine, find the severity of each fault, and score at that severity."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    machine = MACHINES[job.machine](100 + job.seed)
    recipes = {name: load_recipe(name) for name in (PLAIN, OURS)}
    clips = [sound_of(machine, take) for take in range(N_CLIPS)]
    normal = [sound_of(machine, take) for take in range(1000, 1000 + N_CLIPS)]
    judges = {
        name: train_judges(recipe, [frames_of(clip, recipe) for clip in clips], seed=job.seed)["int8"]
        for name, recipe in recipes.items()
    }
    below = {name: judge.scores([frames_of(sound, recipes[name]) for sound in normal]) for name, judge in judges.items()}
    found: dict[str, dict[str, float]] = {}
    severities = {}
    for fault in FAULTS_OF[job.machine]:
        takes = range(2000, 2000 + N_CLIPS)
        clean = [sound_of(machine, take) for take in takes]
        added = [sound_of(machine, take, fault=fault) - sound for take, sound in zip(takes, clean, strict=True)]

        def aucs(name: str, severity_db: float, sounds: tuple[list[F32], list[F32]] = (clean, added)) -> dict[str, float]:
            times = np.float32(10.0 ** (severity_db / 20.0))
            faulty = [frames_of(sound + times * more, recipes[name]) for sound, more in zip(*sounds, strict=True)]
            above = judges[name].scores(faulty)
            return {column: auc(below[name][column], above[column]) for column in above}

        low, high = SEVERITIES_DB
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if aucs(PLAIN, middle)["reconstruction"] > AT_AUC else (middle, high)
        severities[fault] = high
        found[fault] = {row_label(OURS, column): value for column, value in aucs(OURS, high).items()}
        found[fault][row_label(PLAIN)] = aucs(PLAIN, high)["reconstruction"]
    return SyntheticResult(job, severities, found)


def sound_of(machine: Machine, take: int, fault: str | None = None, *, seconds: float = SECONDS) -> F32:
    """A recording of a machine, which may have a fault."""
    return np.concatenate(list(Scene(machine=machine, take=take, fault=fault, growth=Growth()).chunks(seconds)))


def frames_of(sound: F32, recipe: Recipe) -> F32:
    """The frames of a recording under a recipe."""
    return np.concatenate(list(stream_frames([Block(0, sound)], recipe.front_end, tick_frames=recipe.tick_frames)))
