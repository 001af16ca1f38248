"""Detection quality on real machines: AUC and pAUC (max_fpr 0.1) per recipe, float and int8, beside MLPerf Tiny's model.

    python -m benchmarks.quality [--recipes dcase,idnn] [--jobs 2]

Data: ../shared/data. Toy cars: MLPerf Tiny's 248 feature clips (128 mels), per car, five folds over its 35 normal clips
(index modulo 5), 28 to train on, 7 and all 27 anomalous ones to score; a recipe's network and training, on the features'
own front end. MLPerf Tiny's model was trained by its authors on the same cars' training set, which is larger. Slide rail:
75 normal clips, the same folds; two anomalous clips, whose AUC and percentile among held-out normal ones prove nothing.
`toyadmos-fft` has a front end of its own, which needs sound: it is there on the slide rail only.
"""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from monitor.bundle.bundle import make_scorer
from monitor.core.arrays import F32, F64
from monitor.core.scorer import Scorer
from train.recipe import Recipe, load_recipe

DATA = Path(__file__).parents[2] / "shared" / "data"
CARS = ("01", "02", "03", "04")
RAIL = "slide-rail"
FOLDS = 5
RECIPES = ("mimii-mel", "dcase", "idnn", "conv", "toyadmos-fft")
KINDS = ("float", "int8")
PUBLISHED = "MLPerf Tiny's model, same clips"


@dataclass(frozen=True)
class Job:
    """One fold of one set of clips under one recipe."""

    recipe: str
    machine: str  # a toy car, or the slide rail
    fold: int


@dataclass(frozen=True)
class Result:
    """Scores of held-out normal and of anomalous clips, by kind of model."""

    job: Job
    normal: dict[str, F64]
    anomaly: dict[str, F64]


def car_recipe(name: str) -> Recipe:
    """The recipe on the features' front end: MLPerf Tiny's, 128 mels."""
    recipe, features = load_recipe(name), load_recipe("dcase")
    return recipe.model_copy(update={"front_end": features.front_end})


def car_features(car: str) -> tuple[list[F32], list[F32]]:
    """Normal and anomalous clips (200, 128) of a car, in the order of their names."""
    folder = DATA / "toycar-ad01" / "features"
    normal, anomaly = (sorted(folder.glob(f"{label}_id_{car}_*.bin")) for label in ("normal", "anomaly"))
    return [_read(path) for path in normal], [_read(path) for path in anomaly]


def slide_rail_features(recipe: Recipe) -> tuple[list[F32], list[F32]]:
    """Normal and anomalous clips as frames of the recipe's own front end."""
    from monitor.core.frames import stream_frames
    from monitor.sources.recording import Recording

    def frames(path: Path) -> F32:
        blocks = Recording(path, sample_rate_hz=recipe.front_end.sample_rate_hz).blocks()
        return np.concatenate(list(stream_frames(blocks, recipe.front_end, tick_frames=recipe.tick_frames)))

    folder = DATA / "slide-rail-id00"
    normal, anomaly = (sorted((folder / label).glob("*.wav")) for label in ("normal", "anomaly"))
    return [frames(path) for path in normal], [frames(path) for path in anomaly]


def run(job: Job) -> Result:
    """Train on the other folds, score this one and the anomalous clips."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from train.export import to_tflite
    from train.features import WindowSet
    from train.fit import fit_network, representative_windows
    from train.networks import device_network

    recipe = load_recipe(job.recipe) if job.machine == RAIL else car_recipe(job.recipe)
    normal, anomaly = slide_rail_features(recipe) if job.machine == RAIL else car_features(job.machine)
    training = [clip for i, clip in enumerate(normal) if i % FOLDS != job.fold]
    held_out = [clip for i, clip in enumerate(normal) if i % FOLDS == job.fold]
    window = recipe.window
    windows = WindowSet(training, n_frames=window.n_frames, hop_frames=window.hop_frames)
    nothing = WindowSet([], n_frames=window.n_frames, hop_frames=window.hop_frames)
    with contextlib.redirect_stdout(io.StringIO()):
        network = device_network(fit_network(recipe, windows, nothing, seed=job.fold).model)
    models = {
        "float": to_tflite(network, representative=None),
        "int8": to_tflite(network, representative=representative_windows(recipe, windows)),
    }
    scorers = {
        kind: make_scorer(content, spec=recipe.scorer_spec, layout=recipe.layout, error=recipe.training.loss)
        for kind, content in models.items()
    }
    return Result(
        job,
        {kind: clip_scores(scorer, held_out) for kind, scorer in scorers.items()},
        {kind: clip_scores(scorer, anomaly) for kind, scorer in scorers.items()},
    )


def clip_scores(scorer: Scorer, clips: Sequence[F32]) -> F64:
    """The whole-file score of each clip, through the pipeline's own windows, quantisation and error."""
    scores = []
    for clip in clips:
        scorer.reset()
        scorer.push_frames(clip)
        scores.append(scorer.file_score())
    return np.array(scores, np.float64)


def aucs(normal: F64, anomaly: F64) -> tuple[float, float]:
    """AUC, and pAUC at a false-positive rate of at most 0.1, standardised."""
    from sklearn.metrics import roc_auc_score

    labels, scores = np.repeat([0, 1], [len(normal), len(anomaly)]), np.concatenate((normal, anomaly))
    return float(roc_auc_score(labels, scores)), float(roc_auc_score(labels, scores, max_fpr=0.1))


def run_all(jobs: Sequence[Job], *, n_processes: int) -> list[Result]:
    """Run jobs side by side."""
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        return list(tqdm(pool.map(run, jobs), total=len(jobs), desc="folds", disable=None, leave=False))


def mlperf_scores(kind: str, clips: Sequence[F32]) -> F64:
    """MLPerf Tiny's own model on the same clips."""
    content = (DATA / "toycar-ad01" / "models" / f"ad01_{'fp32' if kind == 'float' else kind}.tflite").read_bytes()
    return clip_scores(make_scorer(content, spec=load_recipe("dcase").scorer_spec, layout="flat", error="mse"), clips)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--machines", default=",".join((*CARS, RAIL)), help="toy cars by number, and slide-rail")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    recipes = arguments.recipes.split(",")
    if not DATA.is_dir():
        sys.exit("../shared/data is not there: this benchmark needs the real recordings beside the project")
    machines = arguments.machines.split(",")
    cars = [machine for machine in machines if machine in CARS]
    jobs = [
        Job(recipe, machine, fold)
        for recipe in recipes
        for machine in machines
        for fold in range(FOLDS)
        if machine == RAIL or on_mel(recipe)
    ]
    results = run_all(jobs, n_processes=arguments.jobs)
    if cars:
        print_cars([recipe for recipe in recipes if on_mel(recipe)], cars, results)
    if RAIL in machines:
        print_slide_rail(recipes, results)


def on_mel(recipe: str) -> bool:
    """Whether a recipe can be run on mel features."""
    return load_recipe(recipe).front_end.kind == "log_mel"


def print_cars(recipes: Sequence[str], cars: Sequence[str], results: Sequence[Result]) -> None:
    """The mean over cars and folds, and AUC by car."""
    pairs = {
        (recipe, car): {kind: [aucs(r.normal[kind], r.anomaly[kind]) for r in _of(results, recipe, car)] for kind in KINDS}
        for recipe in recipes
        for car in cars
    }
    pairs |= {(PUBLISHED, car): {kind: _mlperf_folds(kind, car) for kind in KINDS} for car in cars}
    print(f"| toy cars, mean over {len(cars)} cars x {FOLDS} folds | AUC float | AUC int8 | pAUC float | pAUC int8 |")
    print("|---|---:|---:|---:|---:|")
    for name in (*recipes, PUBLISHED):
        print(_row(name, {kind: [pair for car in cars for pair in pairs[name, car][kind]] for kind in KINDS}))
    print(f"\n| AUC by car, float / int8 | {' | '.join(cars)} |\n|---{'|---:' * len(cars)}|")
    for name in (*recipes, PUBLISHED):
        means = [" / ".join(f"{np.mean(pairs[name, car][kind], axis=0)[0]:.4f}" for kind in KINDS) for car in cars]
        print(f"| {name} | {' | '.join(means)} |")


def print_slide_rail(recipes: Sequence[str], results: Sequence[Result]) -> None:
    """What two anomalous clips can show."""
    print(f"\n| slide rail, mean over {FOLDS} folds | AUC float | AUC int8 | pAUC float | pAUC int8 | percentiles, int8 |")
    print("|---|---:|---:|---:|---:|---:|")
    for recipe in recipes:
        rail = _of(results, recipe, RAIL)
        percentiles = np.mean([[100 * np.mean(r.normal["int8"] < score) for score in r.anomaly["int8"]] for r in rail], axis=0)
        row = _row(recipe, {kind: [aucs(r.normal[kind], r.anomaly[kind]) for r in rail] for kind in KINDS})
        print(f"{row} {', '.join(f'{p:.0f}' for p in percentiles)} |")


def _of(results: Sequence[Result], recipe: str, machine: str) -> list[Result]:
    return [result for result in results if (result.job.recipe, result.job.machine) == (recipe, machine)]


def _row(name: str, pairs: dict[str, list[tuple[float, float]]]) -> str:
    means = {kind: np.mean(values, axis=0) for kind, values in pairs.items()}
    return f"| {name} | " + " | ".join(f"{means[kind][which]:.4f}" for which in (0, 1) for kind in KINDS) + " |"


def _mlperf_folds(kind: str, car: str) -> list[tuple[float, float]]:
    normal, anomaly = (mlperf_scores(kind, clips) for clips in car_features(car))
    return [aucs(normal[fold::FOLDS], anomaly) for fold in range(FOLDS)]


def _read(path: Path) -> F32:
    return np.fromfile(path, "<f4").reshape(200, 128)


if __name__ == "__main__":
    main()
