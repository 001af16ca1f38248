"""Detection quality on real machines, by component and fused, compared with the plain autoencoders and MLPerf Tiny's model.

    python -m benchmarks.quality [--parts cars,gain,rail,synthetic] [--recipes default,mimii-mel] [--seeds 3] [--jobs 2]

Data: ../shared/data. Everything is trained and fitted as `train fit` does, and scored by `monitor`'s scorer, int8 unless a
column says float. One in five of the clips to learn from is held out for the typical scores. AUC is the mean over cars and
folds, +- its standard deviation over seeds.

cars   MLPerf Tiny's 248 feature clips (128 mels) of four toy cars. For each car, five folds over its 35 normal clips (index
       modulo 5): 28 to learn from, 7 and all 27 anomalous ones to score. A recipe's network uses the front end of these
       features. MLPerf Tiny's model was trained by its authors on the training set of the same cars, which is larger.
gain   The same, with the clips to score 6 dB louder, and 6 dB quieter.
rail   75 normal clips of a slide rail, in the same folds, and two anomalous ones. For the latter, the percentile among all
       held-out normal clips with a 95 % interval. Two clips prove nothing. `toyadmos-fft` is evaluated only here, because
       its own front end needs sound.
synthetic
       Four synthetic machines with two faults each, at which the plain autoencoder has an AUC of 0.75
       (benchmarks/sounds/synthetic_machines.py). `made` is an older name of this part.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from benchmarks.judging import aucs, judge, row_label, train_judges
from benchmarks.report import Table, make_parser, publish
from benchmarks.sounds.synthetic_machines import FAULTS_OF, SyntheticJob, SyntheticResult, renamed, run_synthetic
from monitor.arrays import F32, F64
from train.recipes.recipe import Recipe, load_recipe

DATA = Path(__file__).parents[2] / "shared" / "data"
CARS = ("01", "02", "03", "04")
RAIL = "slide-rail"
FOLDS = 5
GAIN_DB = 6.0
KINDS = ("int8", "float")
RECIPES = ("default", "mimii-mel", "dcase", "idnn", "conv", "toyadmos-fft")
PUBLISHED = "MLPerf Tiny's model"
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
Column = tuple[str, str]  # kind of model, and component or fused


@dataclass(frozen=True)
class Job:
    """A fold of a set of clips under a recipe."""

    recipe: str
    machine: str  # a toy car, or the slide rail
    fold: int
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """Scores of held-out normal and of anomalous clips, by added gain in dB and by column."""

    job: Job
    normal: dict[float, dict[Column, F64]]
    anomaly: dict[float, dict[Column, F64]]

    def aucs(self, column: Column, gain_db: float = 0.0) -> tuple[float, float]:
        """AUC and pAUC of a column."""
        return aucs(self.normal[gain_db][column], self.anomaly[gain_db][column])


def car_recipe(name: str) -> Recipe:
    """The recipe on the front end of the features: MLPerf Tiny's, 128 mels."""
    recipe, features = load_recipe(name), load_recipe("dcase")
    return recipe.model_copy(update={"front_end": features.front_end})


def car_features(car: str) -> tuple[list[F32], list[F32]]:
    """Normal and anomalous clips (200, 128) of a car, sorted by name."""
    folder = DATA / "toycar-ad01" / "features"
    normal, anomaly = (sorted(folder.glob(f"{label}_id_{car}_*.bin")) for label in ("normal", "anomaly"))
    return [_read(path) for path in normal], [_read(path) for path in anomaly]


def slide_rail_features(recipe: Recipe) -> tuple[list[F32], list[F32]]:
    """Normal and anomalous clips as frames of the recipe's own front end."""
    from monitor.audio.recording import Recording
    from monitor.scoring.frames import stream_frames

    def frames(path: Path) -> F32:
        blocks = Recording(path, sample_rate_hz=recipe.front_end.sample_rate_hz).blocks()
        return np.concatenate(list(stream_frames(blocks, recipe.front_end, tick_frames=recipe.tick_frames)))

    folder = DATA / "slide-rail-id00"
    normal, anomaly = (sorted((folder / label).glob("*.wav")) for label in ("normal", "anomaly"))
    return [frames(path) for path in normal], [frames(path) for path in anomaly]


def run(job: Job, gains_db: Sequence[float] = (0.0,)) -> Result:
    """Learn from the other folds, and score this one and the anomalous clips."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    recipe = load_recipe(job.recipe) if job.machine == RAIL else car_recipe(job.recipe)
    normal, anomaly = slide_rail_features(recipe) if job.machine == RAIL else car_features(job.machine)
    judges = train_judges(recipe, [c for i, c in enumerate(normal) if i % FOLDS != job.fold], seed=10 * job.seed + job.fold)

    def scores(clips: Iterable[F32]) -> dict[Column, F64]:
        heard = list(clips)
        return {(kind, name): found for kind, one in judges.items() for name, found in one.scores(heard).items()}

    return Result(
        job,
        {gain: scores(clip + np.float32(gain) for clip in normal[job.fold :: FOLDS]) for gain in gains_db},
        {gain: scores(clip + np.float32(gain) for clip in anomaly) for gain in gains_db},
    )


def run_all(jobs: Sequence[Job], *, n_processes: int, gains_db: Sequence[float] = (0.0,)) -> list[Result]:
    """Run jobs in parallel."""
    return side_by_side(partial(run, gains_db=gains_db), jobs, n_processes=n_processes)


def side_by_side(work: Callable[[_Job], _Result], jobs: Sequence[_Job], *, n_processes: int) -> list[_Result]:
    """The results of `work` for each job, in separate processes."""
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        return list(tqdm(pool.map(work, jobs), total=len(jobs), desc="jobs", disable=None, leave=False))


def run_published(car: str, fold: int, gains_db: Sequence[float]) -> Result:
    """MLPerf Tiny's own model on the same clips."""
    recipe = load_recipe("dcase")
    normal, anomaly = car_features(car)

    def scores(clips: Sequence[F32], gain: float) -> dict[Column, F64]:
        louder = [clip + np.float32(gain) for clip in clips]
        files = {"float": "ad01_fp32.tflite", "int8": "ad01_int8.tflite"}
        models = {kind: (DATA / "toycar-ad01" / "models" / file).read_bytes() for kind, file in files.items()}
        return {
            (kind, name): found
            for kind, content in models.items()
            for name, found in judge(recipe, content).scores(louder).items()
        }

    return Result(
        Job(PUBLISHED, car, fold),
        {gain: scores(normal[fold::FOLDS], gain) for gain in gains_db},
        {gain: scores(anomaly, gain) for gain in gains_db},
    )


def main() -> None:
    """Print the selected tables."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--parts", type=renamed, default="cars,gain,rail,synthetic", help="cars, gain, rail, synthetic (default all)"
    )
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--cars", default=",".join(CARS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    arguments = parser.parse_args()
    publish(measure(arguments), arguments.json)


def measure(arguments: argparse.Namespace) -> Iterator[Table]:
    """The selected tables."""
    parts, recipes, cars = (text.split(",") for text in (arguments.parts, arguments.recipes, arguments.cars))
    if set(parts) - {"synthetic"} and not DATA.is_dir():
        sys.exit("../shared/data is not there: all but --parts synthetic needs the real recordings beside the project")
    places = [(recipe, fold, seed) for seed in range(arguments.seeds) for recipe in recipes for fold in range(FOLDS)]
    if "cars" in parts or "gain" in parts:
        gains = (0.0, GAIN_DB, -GAIN_DB) if "gain" in parts else (0.0,)
        on_mel = [recipe for recipe in recipes if load_recipe(recipe).front_end.kind == "log_mel"]
        jobs = [Job(recipe, car, fold, seed) for recipe, fold, seed in places for car in cars if recipe in on_mel]
        results = run_all(jobs, n_processes=arguments.jobs, gains_db=gains)
        results += [run_published(car, fold, gains) for car in cars for fold in range(FOLDS)]
        yield from cars_tables([*on_mel, PUBLISHED], cars, results, gains)
    if "rail" in parts:
        jobs = [Job(recipe, RAIL, fold, seed) for recipe, fold, seed in places]
        yield slide_rail_table(recipes, run_all(jobs, n_processes=arguments.jobs))
    if "synthetic" in parts:
        synthetic = [SyntheticJob(machine, seed) for seed in range(arguments.seeds) for machine in FAULTS_OF]
        yield synthetic_table(side_by_side(run_synthetic, synthetic, n_processes=arguments.jobs))


def cars_tables(
    recipes: Sequence[str], cars: Sequence[str], results: Sequence[Result], gains_db: Sequence[float]
) -> Iterator[Table]:
    """The mean over cars and folds by component, also at a gain that differs from training, and the AUC by car."""
    columns = {f"{metric} {kind}": (kind, which, 0.0) for kind in KINDS for which, metric in enumerate(("AUC", "pAUC"))}
    columns |= {f"AUC, {abs(db):.0f} dB {'louder' if db > 0 else 'quieter'}": ("int8", 0, db) for db in gains_db if db}
    means, by_car = [], []
    for recipe in recipes:
        for name, label in _labels(results, recipe).items():
            picks = [partial(_pick, column=(kind, name), which=which, gain_db=db) for kind, which, db in columns.values()]
            means.append([label, *(_over_seeds(_of(results, recipe), pick) for pick in picks)])
            by_car.append([label, *(_over_seeds(_of(results, recipe, car), picks[0]) for car in cars)])
    yield Table("cars", [f"mean over {len(cars)} cars x {FOLDS} folds", *columns], means)
    yield Table("by car", ["AUC per car, int8", *cars], by_car)


def slide_rail_table(recipes: Sequence[str], results: Sequence[Result]) -> Table:
    """The position of two anomalous clips among all held-out normal ones."""
    clips = range(len(next(iter(results[0].anomaly[0.0].values()))))
    rows = [
        [label, *(_percentile(_of(results, recipe), ("int8", name), clip) for clip in clips)]
        for recipe in recipes
        for name, label in _labels(results, recipe).items()
    ]
    return Table("rail", ["percentile", *(f"clip {clip + 1}" for clip in clips)], rows)


def synthetic_table(results: Sequence[SyntheticResult]) -> Table:
    """The AUC by machine and fault."""
    pairs = [(machine, fault) for machine, faults in FAULTS_OF.items() for fault in faults]
    rows = []
    for name in results[0].auc[pairs[0][1]]:
        by_pair = [[one.auc[fault][name] for one in results if one.job.machine == machine] for machine, fault in pairs]
        rows.append([name, *map(_mean_and_spread, (*by_pair, list(np.mean(by_pair, axis=0))))])
    levels = [[one.severity_db[fault] for one in results if one.job.machine == machine] for machine, fault in pairs]
    rows.append(["severity, dB", *(f"{np.mean(level):.1f}" for level in levels), ""])
    return Table("synthetic", ["AUC int8", *map(", ".join, pairs), "mean"], rows)


def _percentile(results: Sequence[Result], column: Column, clip: int) -> str:
    """The percentile of a clip over all folds, and its interval given the number of normal clips (Jeffreys)."""
    from scipy.stats import beta

    below = [score < result.anomaly[0.0][column][clip] for result in results for score in result.normal[0.0][column]]
    n_seeds = len({result.job.seed for result in results})
    n, k = len(below) / n_seeds, sum(below) / n_seeds
    low, high = beta.ppf((0.025, 0.975), k + 0.5, n - k + 0.5)
    return f"{100 * k / n:.0f} ({100 * low:.0f}-{100 * high:.0f})"


def _pick(result: Result, *, column: Column, which: int, gain_db: float = 0.0) -> float:
    return result.aucs(column, gain_db)[which]


def _over_seeds(results: Sequence[Result], value: Callable[[Result], float]) -> str:
    """The mean over everything and, if there are several seeds, the standard deviation of their means."""
    seeds = sorted({result.job.seed for result in results})
    means = [np.mean([value(result) for result in results if result.job.seed == seed]) for seed in seeds]
    return _mean_and_spread([float(mean) for mean in means])


def _mean_and_spread(values: Sequence[float]) -> str:
    text = f"{np.mean(values):.3f}" + (f" ±{np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
    return text.replace("0.", ".")


def _labels(results: Sequence[Result], recipe: str) -> dict[str, str]:
    """The components of a recipe, and their labels in a table."""
    names = [name for kind, name in _of(results, recipe)[0].normal[0.0] if kind == "int8"]
    if recipe == PUBLISHED:
        return {names[0]: PUBLISHED}
    return {name: row_label(recipe, name if len(names) > 1 else None) for name in names}


def _of(results: Sequence[Result], recipe: str, machine: str | None = None) -> list[Result]:
    return [one for one in results if one.job.recipe == recipe and machine in (None, one.job.machine)]


def _read(path: Path) -> F32:
    return np.fromfile(path, "<f4").reshape(200, 128)


if __name__ == "__main__":
    main()
