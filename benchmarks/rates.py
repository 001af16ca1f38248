"""The benefit of the recordings' own sample rate, and the cost of a minimum spread of bands: `default`'s front end and `wide`'s.

    python -m benchmarks.rates [--cost BUNDLE …]

Data: ../shared/data. Scores are the distances of the recipes' spectrum and modulation, each as a multiple of its typical
value, averaged; there is no network. Five folds: a fifth of the normal recordings is scored. Of the others, one in five
gives the typical values.

compressor  44.1 kHz, clips of 3 s. Faults as they are, and mixed 6, 9 and 12 dB below healthy clips of the scored fold. Both
            are only attenuated, including the healthy clip, so that the noise of the microphone keeps its level. The control is
            another healthy clip mixed in the same way, because a mixture is detected as such.
cars, rail, motor  16 kHz. `wide` is the same rate with longer frames. Cars are features and have only `default`'s. The
            motor's recordings are cut into pieces of 2 s, so normal and held-out sound are similar.
Columns with a number have that minimum spread in dB for all bands, `own` has that of the recipe.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import soxr

from benchmarks.judging import auc
from benchmarks.report import Table, make_parser, publish
from monitor.arrays import F32, F64
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle import load_bundle
from monitor.scoring.components import Modulation, Observation, Spectrum, fit_normal
from monitor.scoring.components.normal import NOISE_DB
from monitor.scoring.frames import stream_frames
from train.recipes.recipe import Recipe, load_recipe

DATA = Path(__file__).parents[2] / "shared" / "data"
COMPRESSOR_HZ, RATE_HZ = 44_100, 16_000
SILENT_S = 0.14  # at the start of the compressor's clips
MIXED_DB = (6, 9, 12)
FOLDS = 5
COST_S = 300.0
LEAST_DB: tuple[float | None, ...] = (0.0, 0.25, 0.5, 1.0, None)
Vectors = tuple[F64, F64]  # spectrum, modulation


def vectors(frames: F32, recipe: Recipe) -> Vectors:
    """The mean frame of a clip, and its modulation."""
    assert recipe.detector.modulation is not None
    n_bands, part = frames.shape[1], recipe.detector.modulation
    empty = np.empty((0, 1), np.float32)
    found = []
    for feature in (Spectrum(n_bands), Modulation(n_bands=n_bands, n_groups=part.n_groups, lags=part.lags_frames)):
        ticks = [frames[at : at + recipe.tick_frames] for at in range(0, len(frames), recipe.tick_frames)]
        sums = np.sum([feature.measure(Observation(empty, empty, np.empty(0, bool), tick)) for tick in ticks], axis=0)
        values = feature.values(sums)
        assert values is not None
        found.append(values)
    return found[0], found[1]


def heard(samples: F32, rate_hz: int, recipe: Recipe) -> Vectors:
    """The vectors of a clip under a recipe."""
    to_hz = recipe.front_end.sample_rate_hz
    sound = np.asarray(samples if rate_hz == to_hz else soxr.resample(samples, rate_hz, to_hz), np.float32)
    return vectors(
        np.concatenate(list(stream_frames([Block(0, sound)], recipe.front_end, tick_frames=recipe.tick_frames))), recipe
    )


def scores(training: Sequence[Vectors], judged: Sequence[Sequence[Vectors]], recipe: Recipe, least_db: float | None) -> list[F64]:
    """The scores (n,) of the clips of each list."""
    held_out, learnt = training[::FOLDS], [one for i, one in enumerate(training) if i % FOLDS]
    totals = [np.zeros(len(clips)) for clips in judged]
    spreads: tuple[tuple[float, F64 | float], ...] = ((recipe.gain_db, recipe.noise_db), (0.0, NOISE_DB))
    for number, (level_db, per_band) in enumerate(spreads):
        rows = np.array([one[number] for one in learnt])
        normal = fit_normal(rows, level_db=level_db, noise_db=per_band if least_db is None else least_db)
        typical = float(np.median([normal.distance(one[number]) for one in held_out]))
        for total, clips in zip(totals, judged, strict=True):
            total += [normal.distance(one[number]) / typical / 2 for one in clips]
    return totals


def folds(normal: Sequence[Vectors]) -> list[tuple[list[Vectors], list[Vectors]]]:
    """The clips to learn from and the clips to score, for each fold."""
    return [([one for i, one in enumerate(normal) if i % FOLDS != fold], list(normal[fold::FOLDS])) for fold in range(FOLDS)]


def separation(normal: Sequence[Vectors], anomaly: Sequence[Vectors], recipe: Recipe) -> list[float]:
    """The mean AUC over the folds for each minimum spread."""
    found = []
    for least_db in LEAST_DB:
        pairs = [scores(training, (judged, anomaly), recipe, least_db) for training, judged in folds(normal)]
        found.append(float(np.mean([auc(*pair) for pair in pairs])))
    return found


def compressor(recipe: Recipe) -> dict[str, list[float]]:
    """AUC of faults as recorded, and of faults mixed below healthy clips against healthy clips mixed in the same way."""
    sounds = {label: _sounds("air-compressor", label, COMPRESSOR_HZ, skip_s=SILENT_S) for label in ("normal", "anomaly")}
    normal = [heard(one, COMPRESSOR_HZ, recipe) for one in sounds["normal"]]
    anomaly = [heard(one, COMPRESSOR_HZ, recipe) for one in sounds["anomaly"]]
    rows = {"compressor, as recorded": separation(normal, anomaly, recipe)}
    for mixed_db in MIXED_DB:
        aucs: dict[float | None, list[float]] = defaultdict(list)
        for fold, (training, _) in enumerate(folds(normal)):
            healthy = sounds["normal"][fold::FOLDS]
            faulty = [mix(healthy[i % len(healthy)], one, mixed_db) for i, one in enumerate(sounds["anomaly"])]
            control = [mix(one, healthy[i - step], mixed_db) for step in (1, 2) for i, one in enumerate(healthy)]
            lists = [[heard(one, COMPRESSOR_HZ, recipe) for one in clips] for clips in (control, faulty)]
            for least_db in LEAST_DB:
                aucs[least_db].append(auc(*scores(training, lists, recipe, least_db)))
        rows[f"compressor, {mixed_db} dB under"] = [float(np.mean(aucs[least_db])) for least_db in LEAST_DB]
    return rows


def mix(healthy: F32, other: F32, mixed_db: float) -> F32:
    """A clip mixed `mixed_db` below another by power. Both are attenuated so that noise common to both keeps its level."""
    n, times = min(len(healthy), len(other)), 10.0 ** (-mixed_db / 10.0) * float(np.mean(healthy**2) / np.mean(other**2))
    share = times / (1.0 + times)
    return np.asarray(np.sqrt(1.0 - share) * healthy[:n] + np.sqrt(share) * other[:n], np.float32)


def cost(folder: Path) -> str:
    """The cost of a bundle's pipeline in this process: CPU, the minimum of three passes, and additional memory."""
    from benchmarks.speed.replay import run_monitor

    before_mb = psutil.Process().memory_info().rss / 1e6
    bundle = load_bundle(folder)
    rate_hz = bundle.manifest.front_end.sample_rate_hz
    sound = np.asarray(0.05 * np.random.default_rng(0).standard_normal(round(COST_S * rate_hz)), np.float32)
    blocks = [Block(at, sound[at : at + 2 * rate_hz]) for at in range(0, len(sound), 2 * rate_hz)]
    passes_s = []
    for _ in range(3):
        began_s = time.process_time()
        run_monitor(blocks, bundle)
        passes_s.append(time.process_time() - began_s)
    memory_mb = psutil.Process().memory_info().rss / 1e6 - before_mb - sound.nbytes / 1e6
    share = min(passes_s) / COST_S
    cpu = f"{3600 * share:.2f} CPU s an hour of sound ({100 * share:.3f} % of a core)"
    return f"{folder.name}: {rate_hz} Hz, {cpu}, {memory_mb:.0f} MB"


def main() -> None:
    """Print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--cost", type=Path, nargs="+", metavar="BUNDLE", help="print what these bundles cost instead")
    arguments = parser.parse_args()
    if arguments.cost:
        publish(map(cost, arguments.cost), arguments.json)
        return
    if not DATA.is_dir():
        sys.exit(f"{DATA.name} is not beside the project: this benchmark needs the real recordings")
    header = ["set", "recipe", *("own" if least_db is None else f"{least_db:g} dB" for least_db in LEAST_DB)]
    publish([Table("AUC, spectrum and modulation", header, rows())], arguments.json)


def rows() -> Iterator[list[str]]:
    """The rows of the table."""
    default, wide = load_recipe("default"), load_recipe("wide")
    for name, recipe in (("default", default), ("wide", wide.at(COMPRESSOR_HZ))):
        for what, row in compressor(recipe).items():
            yield _row(what, name, row)
    cars = []
    for car in ("01", "02", "03", "04"):
        folder = DATA / "toycar-ad01" / "features"
        lists = [
            [vectors(np.fromfile(path, "<f4").reshape(200, 128), default) for path in sorted(folder.glob(f"{label}_id_{car}_*"))]
            for label in ("normal", "anomaly")
        ]
        cars.append(separation(lists[0], lists[1], default))
    yield _row("toy cars", "default", list(np.mean(cars, axis=0)))
    for name, recipe in (("default", default), ("wide", wide.at(RATE_HZ))):
        for what, folder_name, piece_s in (("slide rail (2 anomalies)", "slide-rail-id00", None), ("motor", "bldc-motor", 2.0)):
            lists = [
                [heard(one, RATE_HZ, recipe) for one in _sounds(folder_name, label, RATE_HZ, piece_s=piece_s)]
                for label in ("normal", "anomaly")
            ]
            yield _row(what, name, separation(lists[0], lists[1], recipe))


def _sounds(folder: str, label: str, rate_hz: int, *, skip_s: float = 0.0, piece_s: float | None = None) -> list[F32]:
    found = []
    for path in sorted(one for one in (DATA / folder / label).rglob("*") if one.suffix in (".wav", ".flac")):
        blocks = Recording(path, sample_rate_hz=rate_hz).blocks(start_s=skip_s)
        sound = np.concatenate([block.samples for block in blocks])
        n = len(sound) if piece_s is None else round(piece_s * rate_hz)
        found += [sound[at : at + n] for at in range(0, len(sound) - n + 1, n)]
    return found


def _row(what: str, recipe: str, aucs: Sequence[float]) -> list[str]:
    return [what, recipe, *(f"{value:.3f}" for value in aucs)]


if __name__ == "__main__":
    main()
