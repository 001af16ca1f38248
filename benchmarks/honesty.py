"""Promised false-alarm rates, compared with the rates on unseen normal sound, for every available data set.

    python -m benchmarks.honesty [--recipes default,mimii-mel] [--parts demo,cars,rail,fan,pump,valve,gearbox] [--draws 1]
                                 [--long]

Every bundle is built by `train fit --method default` from recordings of normal sound. Other recordings are scored with
`monitor --replay`, which is int8 and the device's own pipeline. A recipe with statistics learns from all recordings and
cross-fits. For other recipes, a fifth of the recordings sets the threshold.

fan … gearbox  Synthetic machines (`train synth`), recordings of two minutes: half an hour to learn from and half an hour of
               unseen sound, with --long two hours and eight. Each recording has a different flow, state or schedule.
               --draws repeats this with other recordings to learn from and to hear, and adds them up.
rail           75 clips of 10 s of a real slide rail (../shared/data). Each third in turn is unseen.
cars           MLPerf Tiny's features of four toy cars (../shared/data), clips of 6.4 s. Each fifth of a car in turn is unseen.
demo           The shipped bundle, with its own threshold, on the recording of the demo.

Separate segments share no sound, and a clip counts as one. All figures refer to the warning level. Its promise is the
fraction of separate segments that exceed it and, together with the rule, the number of warnings per week. Events need
recordings longer than the rule's span. Separate segments of one recording are alike, so their interval is that of Korn and
Graubard (1998) with the recordings as clusters; that of events is exact (Garwood 1936). `kept` and `worse` mean that the whole
interval lies on one side of the promise, `open` that there is not enough sound to decide.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.judging import N_FOLDS, Judge, train_judges
from benchmarks.quality import CARS, DATA, FOLDS, car_features, car_recipe
from benchmarks.report import Table, make_parser, publish
from benchmarks.slide_rail import ROOT, run
from monitor.arrays import F32, F64
from monitor.bundle.manifest import CalibrationPart, read_manifest
from monitor.events.decision import Rule
from monitor.learning.false_alarms import WEEK_HOURS, NormalScores
from monitor.learning.report_text import count, significant
from monitor.learning.thresholds import WARNING_CHANCE, Calibration, HeldOut, prior_of
from train.calibration.thresholds import calibrate
from train.evaluation.metrics import CONFIDENCE, Interval
from train.recipes.method import Method

Counts = NDArray[np.int64]
MACHINES = ("fan", "pump", "valve", "gearbox")
PARTS = ("demo", "cars", "rail", *MACHINES)
RECORDING_S = 120
RAIL_TURNS = 3
AIM = Method()
HEADER = (
    *("data", "recipe", "set on", "heard", "segments over"),
    *("separate ones over", "promised", "verdict", "events", "a week", "promised", "verdict"),
)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Unseen normal sound scored with a bundle: ratios (n_i,) of the segments of each recording, and the events raised."""

    evidence: NormalScores
    hours: float
    events: int
    set_on: str
    segment_promise: float | None
    weekly_promise: float | None

    @property
    def over(self) -> tuple[int, int]:
        """The number of segments over the threshold, and the number of segments."""
        return int(np.count_nonzero(self.evidence.scores >= 1.0)), len(self.evidence.scores)

    @property
    def separate_over(self) -> tuple[Counts, Counts]:
        """The number of separate segments over the threshold, and of separate segments, (n_recordings,) each."""
        separate = [ratios[:: self.evidence.segment_ticks] for ratios in self.evidence.sequences]
        return np.array([np.count_nonzero(of >= 1.0) for of in separate]), np.array([len(of) for of in separate])


def main() -> None:
    """Print the table row by row."""
    parser = make_parser(__doc__)
    parser.add_argument("--recipes", default="default,mimii-mel")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--draws", type=int, default=1, help="how often each synthetic machine is learned anew (default 1)")
    parser.add_argument("--long", action="store_true", help="eight hours of every synthetic machine, after two to learn from")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts must be of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    if not DATA.is_dir() and {"cars", "rail"} & set(parts):
        sys.exit(f"{DATA.relative_to(ROOT.parent)} is not there: leave out the parts cars and rail")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    publish([Table("promised and realised false alarms", HEADER, measure(arguments, parts))], arguments.json)


def measure(arguments: argparse.Namespace, parts: Sequence[str]) -> Iterator[list[str]]:
    """The rows of the table."""
    if "demo" in parts:
        heard_in_demo = listen(ROOT / "models/demo-fan", [ROOT / "demo/fan-normal.flac"])
        yield _row("demo, 20 s of the synthetic fan", "as shipped", heard_in_demo)
    hours = (2.0, 8.0) if arguments.long else (0.5, 0.5)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for recipe in arguments.recipes.split(","):
            if "cars" in parts:
                yield _row("toy cars, features", recipe, _cars(recipe))
            if "rail" in parts:
                yield _row("slide rail, real sound", recipe, _rail(recipe, Path(folder)))
        for machine in (name for name in MACHINES if name in parts):
            heard: dict[str, list[Heard]] = {recipe: [] for recipe in arguments.recipes.split(",")}
            for draw in range(arguments.draws):
                sounds, unheard = _make(machine, Path(folder) / str(draw), learn_h=hours[0], hear_h=hours[1], draw=draw)
                for recipe, of in heard.items():
                    of.append(listen(_fit(sounds, recipe, Path(folder) / f"{machine}-{recipe}-{draw}"), unheard))
                shutil.rmtree(Path(folder) / str(draw))
            for recipe, of in heard.items():
                yield _row(f"{machine}, synthetic", recipe, _together(of))


def listen(bundle: Path, recordings: Sequence[Path]) -> Heard:
    """The results of the device's pipeline for these recordings."""
    manifest = read_manifest(bundle)
    lines = run("monitor.cli.main", "--replay", *recordings, "--model", bundle, "--scores").splitlines()
    ratios: dict[str, list[tuple[int, float]]] = {}
    seconds, events = 0.0, 0
    for line in map(json.loads, lines):
        if "event_type" in line:
            events += line["event_type"] == "start"
        elif line["type"] == "file":
            seconds += line["scored_s"]
        elif line["ratio"] is not None:
            ratios.setdefault(line["file"], []).append((line["n_ticks"], line["ratio"]))
    full = [[ratio for n, ratio in of if n == manifest.segment_ticks] or [of[-1][1]] for of in ratios.values()]
    evidence = NormalScores(
        sequences=tuple(map(np.array, full)),
        rule=manifest.rule,
        segment_ticks=manifest.segment_ticks,
        tick_s=manifest.scorer_spec.tick_s,
    )
    return _heard(evidence, seconds / 3600, events, manifest.calibration)


def _heard(evidence: NormalScores, hours: float, events: int, calibration: Calibration | CalibrationPart) -> Heard:
    set_on = f"{60 * calibration.hours:.1f} min, {count(calibration.n_units or 0, 'separate segment')}"
    return Heard(
        evidence=evidence,
        hours=hours,
        events=events,
        set_on=set_on,
        segment_promise=WARNING_CHANCE if calibration.method == "default" else None,
        weekly_promise=calibration.promised_per_week,
    )


def _together(heard: Sequence[Heard]) -> Heard:
    """Combine the turns or draws of a data set, which all have the same promise."""
    first = heard[0]
    sequences = tuple(scores for one in heard for scores in one.evidence.sequences)
    return replace(
        first,
        evidence=replace(first.evidence, sequences=sequences),
        hours=sum(one.hours for one in heard),
        events=sum(one.events for one in heard),
    )


def _fit(sounds: Path, recipe: str, out: Path) -> Path:
    run("train.cli.main", "fit", sounds, "--recipe", recipe, "--method", AIM.name, "--seed", "0", "--out", out)
    return out


def _make(machine: str, folder: Path, *, learn_h: float, hear_h: float, draw: int) -> tuple[Path, list[Path]]:
    """A data set to learn from, and recordings of the same machine that are not part of it."""
    numbers = [round(3600 * hours / RECORDING_S) for hours in (learn_h, hear_h)]
    for name, n, take in (("learn", numbers[0], 2000 * draw), ("unheard", numbers[1], 2000 * draw + 1000)):
        options = ("--machine", machine, "--recordings", n, "--seconds", RECORDING_S, "--take", take)
        run("train.cli.main", "synth", folder / name / machine, *options)
    return folder / "learn" / machine, sorted((folder / "unheard" / machine / "normal").iterdir())


def _rail(recipe: str, folder: Path) -> Heard:
    clips = sorted((DATA / "slide-rail-id00" / "normal").glob("*.wav"))
    heard = []
    for turn in range(RAIL_TURNS):
        sounds = folder / "rail" / recipe / str(turn)
        (sounds / "normal").mkdir(parents=True)
        for at, clip in enumerate(clips):
            if at % RAIL_TURNS != turn:
                (sounds / "normal" / clip.name).symlink_to(clip.resolve())
        bundle = _fit(sounds, recipe, folder / f"rail-{recipe}-{turn}")
        heard.append(listen(bundle, clips[turn::RAIL_TURNS]))
    return _together(heard)


def _cars(name: str) -> Heard:
    """Score features, which hold no samples, as frames with the device's scorer. A clip counts by its score as a whole."""
    recipe, heard = car_recipe(name), []
    for car in CARS:
        normal, _ = car_features(car)
        for turn in range(FOLDS):
            learned = [clip for at, clip in enumerate(normal) if at % FOLDS != turn]
            n_trained = len(learned) - (len(learned) // N_FOLDS if recipe.calibration.part == "held_out" else 0)
            judge = train_judges(recipe, learned[:n_trained], seed=turn)["int8"]
            held_out, unheard = (_fused(judge, clips) for clips in (learned[n_trained:], normal[turn::FOLDS]))
            known = judge.unknown if n_trained == len(learned) else held_out
            clip_h = len(normal[0]) * recipe.tick_s / recipe.tick_frames / 3600
            rule = recipe.rule(clear_ratio=Rule().clear_ratio)
            found = calibrate(
                HeldOut(
                    sequences=tuple(known[:, np.newaxis]),
                    unit_scores=known,
                    file_scores=known,
                    hours=len(known) * clip_h,
                    n_recordings=len(known),
                    n_learned=n_trained,
                ),
                rule=rule,
                segment_ticks=recipe.segment_ticks,
                tick_s=recipe.tick_s,
                method=AIM,
                prior=prior_of(recipe.detector.components),
            )
            evidence = NormalScores(
                sequences=tuple(unheard[:, np.newaxis] / found.threshold),
                rule=rule,
                segment_ticks=recipe.segment_ticks,
                tick_s=recipe.tick_s,
            )
            heard.append(_heard(evidence, len(unheard) * clip_h, 0, found))
    return _together(heard)


def _fused(judge: Judge, clips: Sequence[F32]) -> F64:
    """The scores (n,) of clips, from the first column, which is that of all components."""
    return next(iter(judge.scores(clips).values())) if clips else np.empty(0)


def _row(data: str, recipe: str, heard: Heard) -> list[str]:
    (over, n), (separate_over, n_separate) = heard.over, heard.separate_over
    separate = clustered_interval(separate_over, n_separate)
    weeks = heard.evidence.replayed_hours / WEEK_HOURS
    cells = [data, recipe, heard.set_on, f"{heard.hours:.2f} h", f"{over / n:.2%} of {n}"]
    rate = separate_over.sum() / n_separate.sum()
    cells += [f"{rate:.1%} of {n_separate.sum()} ({separate.low:.1%} to {separate.high:.1%})"]
    cells += _promise(heard.segment_promise, separate, percents=True)
    if not weeks:
        return [*cells, "-", "-", "-", "-"]
    weekly = poisson_interval(heard.events, weeks)
    cells += [str(heard.events), f"{significant(heard.events / weeks)} ({significant(weekly.low)} to {significant(weekly.high)})"]
    return [*cells, *_promise(heard.weekly_promise, weekly, percents=False)]


def clustered_interval(hits: Counts, sizes: Counts) -> Interval:
    """95 % interval of a rate from counts in clusters, (n,) each: Clopper-Pearson with the effective sample size.

    Korn and Graubard 1998, Survey Methodology 24. The design effect is that of a ratio estimator, and counts as at least 1.
    Without any hit it cannot be estimated and counts as 1.
    """
    n, rate, n_clusters = int(sizes.sum()), hits.sum() / sizes.sum(), len(sizes)
    if n_clusters == 1:  # nothing is known of other recordings
        return Interval(0.0, 1.0)
    effect = 1.0
    if 0.0 < rate < 1.0:
        variance = n_clusters / (n_clusters - 1) * np.sum((hits - rate * sizes) ** 2) / n**2
        effect = max(1.0, float(variance * n / (rate * (1.0 - rate))))
    low, high = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    n_effective = n / effect * float(stats.t.ppf(high, n - 1) / stats.t.ppf(high, n_clusters - 1)) ** 2
    at = rate * n_effective
    least = float(stats.beta.ppf(low, at, n_effective - at + 1)) if rate > 0.0 else 0.0
    most = float(stats.beta.ppf(high, at + 1, n_effective - at)) if rate < 1.0 else 1.0
    return Interval(least, most)


def poisson_interval(events: int, time: float) -> Interval:
    """The exact confidence interval of a rate (Garwood 1936)."""
    low, high = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    least = float(stats.chi2.ppf(low, 2 * events)) / 2 if events else 0.0
    return Interval(least / time, float(stats.chi2.ppf(high, 2 * (events + 1))) / 2 / time)


def _promise(promised: float | None, found: Interval, *, percents: bool) -> list[str]:
    if promised is None:
        return ["nothing", "-"]
    return [f"{promised:.1%}" if percents else f"{promised:g}", verdict(promised, found)]


def verdict(promised: float, found: Interval) -> str:
    """Whether the whole interval of a rate lies below the promised rate, above it, or neither."""
    return "worse" if found.low > promised else "kept" if found.high <= promised else "open"


if __name__ == "__main__":
    main()
