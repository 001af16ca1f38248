"""The length of a segment, from 0.8 to 20 s: quality of a segment and of a decision, false alarms, and delay.

    python -m benchmarks.length [--parts cars,synthetic] [--seeds 3] [--jobs 2]

Recipe `default`, int8. A network is trained once per fold or machine. For each length, the statistics are fitted again to
segments that do not overlap, and score other segments of that length. Ticks have 25 frames, 0.8 s, so that every length is a
whole number of ticks.

cars   MLPerf Tiny's feature clips of four toy cars (../shared/data), 6.4 s each, folds as in benchmarks.quality.
synthetic
       Takes of 20 s of the four synthetic machines with two faults each, as in benchmarks.sounds.synthetic_machines, at the
       severity at which segments of 9.6 s have an AUC of 0.85.

The AUC of a segment is over single segments. A decision is about a whole clip, by the k-th largest score of its n segments,
with k = 0.6 n as in 12 of 20. The decision about a clip of one segment is by that segment. False alarms are the normal
decisions over the threshold that four of five of the faulty ones exceed. Delay is that of the recipe's rule with ticks of
1.024 s. It ranges from a fault so strong that every segment with a tick of it is over the threshold, to one so weak that it
must fill a segment.
"""

import argparse
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.judging import auc, in_time, train_judges
from benchmarks.quality import CARS, DATA, FOLDS, car_features, car_recipe, side_by_side
from benchmarks.report import Table, make_parser, publish
from benchmarks.sounds.frame_ticks import frame_ticks
from benchmarks.sounds.synthetic_machines import FAULTS_OF, HALVINGS, N_CLIPS, SEVERITIES_DB, renamed
from monitor.arrays import F32, F64
from monitor.block import Block
from monitor.bundle.detector import make_detector
from monitor.scoring.components import Detector
from monitor.scoring.frames import stream_frames
from monitor.scoring.scorer import Scorer
from train.calibration.cross_fitting import fit_in_folds
from train.recipes.recipe import Recipe, load_recipe
from train.synth import MACHINES, Growth, Machine, Scene

TICK_FRAMES = 25
TICKS = (1, 2, 4, 8, 12, 25)  # per segment: 0.8 to 20 s
SECONDS = 20.0
AT_TICKS, AT_AUC = 12, 0.85
FUSED = "fused"
Aucs = dict[tuple[str, int], tuple[float, float, float]]  # (component, ticks): AUC of a segment, AUC of a decision, false alarms


@dataclass(frozen=True)
class Job:
    """A fold of a toy car, or an individual synthetic machine (fold -1)."""

    machine: str
    fold: int
    seed: int


@dataclass(frozen=True)
class Result:
    """The result of a job. Synthetic machines have a list of faults."""

    job: Job
    found: list[Aucs]


@dataclass(frozen=True)
class Judge:
    """A trained scorer and, for each length, a detector fitted to segments of that length."""

    scorer: Scorer
    detectors: dict[int, Detector]

    def scores(self, clips: Iterable[F64]) -> dict[tuple[str, int], list[F64]]:
        """The scores (n,) of each clip's segments, by component and length. Clips are given as the sums of ticks (n_ticks, k)."""
        found: dict[tuple[str, int], list[F64]] = {}
        for clip in clips:
            for ticks, detector in self.detectors.items():
                if len(clip) < ticks:
                    continue
                rows = [detector.component_scores(sums) for sums in segments(clip, ticks)]
                names = [component.name for component in detector.components]
                columns = dict(zip(names, np.array(rows, np.float64).T, strict=True))
                columns[FUSED] = np.array([detector.fuse(row) for row in rows if row is not None])
                for name, column in columns.items():
                    found.setdefault((name, ticks), []).append(column)
        return found


def main() -> None:
    """Print the selected tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--parts", type=renamed, default="cars,synthetic")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    arguments = parser.parse_args()
    publish(measure(arguments), arguments.json)


def measure(arguments: argparse.Namespace) -> Iterator[Table]:
    """The selected tables."""
    if "cars" in arguments.parts:
        if not DATA.is_dir():
            sys.exit("../shared/data is not there: --parts cars needs the real recordings beside the project")
        cars = [Job(car, fold, seed) for seed in range(arguments.seeds) for car in CARS for fold in range(FOLDS)]
        yield table("toy cars", side_by_side(run_car, cars, n_processes=arguments.jobs))
    if "synthetic" in arguments.parts:
        synthetic = [Job(machine, -1, seed) for seed in range(arguments.seeds) for machine in FAULTS_OF]
        yield table("synthetic machines", side_by_side(run_synthetic, synthetic, n_processes=arguments.jobs))


def run_car(job: Job) -> Result:
    """Learn from the other folds, and score this one and the anomalous clips."""
    recipe = car_recipe("default")
    normal, anomaly = car_features(job.machine)
    judge = learn(recipe, [clip for i, clip in enumerate(normal) if i % FOLDS != job.fold], seed=10 * job.seed + job.fold)
    held_out, faulty = ([ticks_of(judge.scorer, clip) for clip in clips] for clips in (normal[job.fold :: FOLDS], anomaly))
    return Result(job, [compared(judge.scores(held_out), judge.scores(faulty))])


def run_synthetic(job: Job) -> Result:
    """Learn a machine, find the severity of each fault, and score at that severity."""
    machine, recipe = MACHINES[job.machine](100 + job.seed), load_recipe("default")
    judge = learn(recipe, [frames_of(sound(machine, take), recipe) for take in range(N_CLIPS)], seed=job.seed)

    def heard(sounds: Iterable[F32]) -> list[F64]:
        return [ticks_of(judge.scorer, frames_of(one, recipe)) for one in sounds]

    normal = judge.scores(heard(sound(machine, take) for take in range(1000, 1000 + N_CLIPS)))
    found = []
    for fault in FAULTS_OF[job.machine]:
        takes = range(2000, 2000 + N_CLIPS)
        clean = [sound(machine, take) for take in takes]
        added = [sound(machine, take, fault) - one for take, one in zip(takes, clean, strict=True)]

        def at(severity_db: float, parts: tuple[list[F32], list[F32]] = (clean, added)) -> Aucs:
            times = np.float32(10.0 ** (severity_db / 20.0))
            return compared(normal, judge.scores(heard(one + times * more for one, more in zip(*parts, strict=True))))

        low, high = SEVERITIES_DB
        for _ in range(HALVINGS - 2):
            middle = (low + high) / 2
            low, high = (low, middle) if at(middle)[FUSED, AT_TICKS][0] > AT_AUC else (middle, high)
        found.append(at(high))
    return Result(job, found)


def learn(recipe: Recipe, clips: Sequence[F32], *, seed: int) -> Judge:
    """Train once, and fit for every length that the clips allow."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    recipe = recipe.model_copy(update={"tick_frames": TICK_FRAMES})
    scorer = train_judges(recipe, clips, seed=seed)["int8"].scorer
    heard = [ticks_of(scorer, clip) for clip in clips]
    blank = make_detector(recipe.detector, error=recipe.training.loss, n_bands=recipe.front_end.n_bands, statistics=None)
    detectors = {}
    for ticks in (ticks for ticks in TICKS if ticks <= len(heard[0])):
        _, fitted = fit_in_folds(recipe, blank, in_time(np.concatenate([segments(clip, ticks) for clip in heard])))
        detectors[ticks] = fitted.detector(blank)
    return Judge(scorer, detectors)


def ticks_of(scorer: Scorer, clip: F32) -> F64:
    """The detector's sums (n_ticks, k) of each whole tick of a clip (m, n_bands), dB."""
    scorer.reset()
    sums = []
    for at in range(0, len(clip) - TICK_FRAMES + 1, TICK_FRAMES):
        for tick in frame_ticks(clip[at : at + TICK_FRAMES], tick_frames=TICK_FRAMES, is_fresh=at == 0):
            scorer.score_tick(tick)
        sums.append(scorer.file_sums())
    return np.diff(np.array(sums, np.float64), axis=0, prepend=0.0)


def segments(clip: F64, ticks: int) -> F64:
    """The sums (n, k) of a clip's segments of this many ticks, which do not overlap."""
    n = len(clip) // ticks
    return np.asarray(clip[: n * ticks].reshape(n, ticks, -1).sum(axis=1))


def compared(normal: dict[tuple[str, int], list[F64]], faulty: dict[tuple[str, int], list[F64]]) -> Aucs:
    """Compare normal with faulty clips, by component and length."""
    found = {}
    for key, clips in normal.items():
        of_segments = auc(np.concatenate(clips), np.concatenate(faulty[key]))
        below, above = (np.array([decided(scores) for scores in part]) for part in (clips, faulty[key]))
        found[key] = (of_segments, auc(below, above), float(np.mean(below >= np.quantile(above, 0.2))))
    return found


def decided(scores: F64) -> float:
    """The highest threshold that 60 % of a clip's segments (n,) reach."""
    return float(np.sort(scores)[len(scores) - math.ceil(0.6 * len(scores))])


def frames_of(samples: F32, recipe: Recipe) -> F32:
    """The frames (m, n_bands), dB, of a take."""
    return np.concatenate(list(stream_frames([Block(0, samples)], recipe.front_end, tick_frames=TICK_FRAMES)))


def sound(machine: Machine, take: int, fault: str | None = None) -> F32:
    """A take as in benchmarks.sounds.synthetic_machines, but longer."""
    scene = Scene(machine=machine, take=take, fault=fault, growth=Growth())
    return np.concatenate(list(scene.chunks(SECONDS + 0.1)))


def table(what: str, results: Sequence[Result]) -> Table:
    """A row per length: the mean over everything, and the standard deviation of the means of the seeds."""
    keys = results[0].found[0]
    names = [name for name, ticks in keys if ticks == 1]
    header = ["length", *(f"segment: {name}" for name in names), "decision: fused", "false alarms", "delay, s"]
    rows = []
    for ticks in (ticks for name, ticks in keys if name == FUSED):
        cells = [spread(results, (name, ticks), 0) for name in names]
        cells += [spread(results, (FUSED, ticks), which) for which in (1, 2)]
        rows.append([f"{ticks * 0.8:.1f} s", *cells, delay_s(ticks * 0.8)])
    return Table(f"{what}, AUC", header, rows)


def spread(results: Sequence[Result], key: tuple[str, int], which: int) -> str:
    """The mean, and the standard deviation over seeds."""
    seeds = sorted({result.job.seed for result in results})
    means = [
        np.mean([one[key][which] for result in results if result.job.seed == seed for one in result.found]) for seed in seeds
    ]
    return f"{np.mean(means):.3f}" + (f" ±{np.std(means, ddof=1):.3f}" if len(means) > 1 else "")


def delay_s(segment_s: float) -> str:
    """The time from the onset to the event, for a strong and for a weak fault."""
    recipe = load_recipe("default").model_copy(update={"segment_s": segment_s})
    k = recipe.rule(clear_ratio=0.9).raise_k
    return f"{k * recipe.tick_s:.0f} to {(k + recipe.segment_ticks) * recipe.tick_s:.0f}"


if __name__ == "__main__":
    main()
