"""False verdicts on normal recordings and faults found, for each rule that sets the threshold.

    python -m benchmarks.decide [--sets cars,rail,bldc,compressor,synthetic] [--draws 20] [--part verdicts,streams,spread]

Every draw learns n normal recordings as `monitor learn` does (a network from another machine, with statistics cross-fitted
in six blocks of time). It then scores normal recordings that were not learned, and faults. `random` draws any n recordings
of a set. `in a row` draws n consecutive ones of a set with a known chronological order.

verdicts   Of files: false verdicts on normal recordings (mean over draws) and faults found (mean, and 5 % quantile of the
           draws). They are compared with an ideal threshold with 5 % false verdicts (which has access to the scored
           recordings), the rule of version 0.1.0 (a fifth held out at random), and the rule of the write-ups (mean + 2 sigma of
           the plain error of the learned recordings). `share` is found / found by the ideal threshold.
streams    Of segments: normal recordings that were not learned are drawn at random and joined to one stream of several days.
           The warnings and alarms that the rule raises are compared with the target rates.
spread     The standard deviation of the log scores of unseen normal recordings, and the prior (limit + per / n) fitted to it.
tails      The share of unseen normal recordings over the levels for several probabilities, by set, from 28 recordings on.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from benchmarks.quality import DATA
from benchmarks.report import Table, make_parser, publish
from benchmarks.sounds.decide_data import SETS, Set, learn, sets
from benchmarks.sounds.synthetic_machines import renamed
from monitor.arrays import F64
from monitor.events.decision import Rule
from monitor.learning.false_alarms import count_events
from monitor.learning.fit import Fitted, fit_normals
from monitor.learning.measured import RecordingSums, scores
from monitor.learning.methods import mean_sigma_threshold
from monitor.learning.predictive import fit_score_model
from monitor.learning.thresholds import ALARMS_PER_WEEK, FUSED_PRIOR, WARNINGS_PER_WEEK, HeldOut, Thresholds
from monitor.scoring.components import Detector
from train.calibration.thresholds import conformal_or_largest
from train.recipes.recipe import Recipe, load_recipe

SIZES = (6, 12, 28, 60, 90)
LEFT_OVER = 5  # minimum number of normal recordings to score
IDEAL = 0.05
POOLED_FROM = 28  # recordings, for the sum over all sets
STREAM_DAYS = 1.0
TABLES = ("verdicts", "streams", "spread", "tails")
CHANCES = (0.1, 0.035, 0.005, 0.001)


@dataclass(frozen=True)
class Judged:
    """One draw: the learned thresholds, and the scores of faults and of normal recordings that were not learned."""

    thresholds: Thresholds
    held_out: HeldOut
    normal: F64
    anomaly: F64
    old: tuple[float, F64, F64]  # threshold, normal and anomalous scores under the rule of version 0.1.0
    plain: tuple[float, F64, F64]  # threshold, normal and anomalous scores under the rule of the write-ups
    detector: Detector
    unseen: tuple[RecordingSums, ...]


Cell = tuple[Set, int, str, list[Judged]]  # set, number of learned recordings, mode and draws


def main() -> None:
    """Print the selected tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--sets", type=renamed, default=",".join(SETS))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--part", default=",".join(TABLES))
    arguments = parser.parse_args()
    names, parts = arguments.sets.split(","), arguments.part.split(",")
    if unknown := (set(names) - set(SETS)) | (set(parts) - set(TABLES)):
        parser.error(f"must be of {', '.join(SETS)} and {', '.join(TABLES)}, got {', '.join(sorted(unknown))}")
    if set(names) - {"synthetic"} and not DATA.is_dir():
        sys.exit("../shared/data is not there: all but --sets synthetic needs the real recordings beside the project")
    publish(measure(names, parts, arguments.draws), arguments.json)


def measure(names: Sequence[str], parts: Sequence[str], n_draws: int) -> Iterator[Table | str]:
    """The selected tables."""
    recipe = load_recipe("default")
    cells = [
        (one, n, mode, [judge(one, learned, recipe) for learned in draws(one, n, mode, n_draws)])
        for one in sets(names)
        for n in SIZES
        if len(one.normal) >= n + min(LEFT_OVER, len(one.normal) // 4)
        for mode in (("random", "in a row") if one.in_order else ("random",))
    ]
    if "verdicts" in parts:
        yield from verdicts(cells)
    if "streams" in parts:
        columns = ["set", "n", "drawn", "days", "warnings a day", "promised", "alarms a month", "promised"]
        yield Table("streams", columns, streams(cells, recipe))
    if "spread" in parts:
        yield from spread(cells)
    if "tails" in parts:
        yield Table("tails", ["set", "recordings", *(f"{chance:.1%}" for chance in CHANCES)], tails(cells))


def draws(one: Set, n: int, mode: str, n_draws: int) -> Iterator[np.ndarray]:
    """The indexes of the recordings to learn, in order."""
    total = len(one.normal)
    if mode == "in a row":
        yield from (np.arange(start, start + n) for start in np.unique(np.linspace(0, total - n, min(n_draws, 10)).astype(int)))
        return
    for seed in range(n_draws):
        yield np.sort(np.random.default_rng([seed, n]).permutation(total)[:n])


def judge(one: Set, learned: np.ndarray, recipe: Recipe) -> Judged:
    """Learn these recordings as the device does, and score the others."""
    blank = _blank(recipe)
    known = [one.normal[number] for number in learned]
    unseen = tuple(recording for number, recording in enumerate(one.normal) if number not in set(learned))
    found = learn(blank, known, recipe)
    return Judged(
        thresholds=found.thresholds,
        held_out=found.held_out,
        normal=scores(found.detector, [recording.whole() for recording in unseen]),
        anomaly=scores(found.detector, [recording.whole() for recording in one.anomaly]),
        old=_old(blank, known, unseen, one.anomaly, recipe),
        plain=_plain(blank, known, unseen, one.anomaly),
        detector=found.detector,
        unseen=unseen,
    )


def _old(
    blank: Detector,
    known: Sequence[RecordingSums],
    unseen: Sequence[RecordingSums],
    anomaly: Sequence[RecordingSums],
    recipe: Recipe,
) -> tuple[float, F64, F64]:
    """The rule of version 0.1.0, with a fifth held out at random.

    It is the conformal threshold of the held-out files, or mean + 6 sigma if there are only a few.
    """
    order = np.random.default_rng(len(known)).permutation(len(known))
    n_out = max(2, round(len(known) / 5))
    whole = np.array([recording.whole() for recording in known])
    normals = fit_normals(blank, whole[order[n_out:]], gain_db=recipe.gain_db, noise_db=recipe.noise_db)
    raw = [Fitted(normals).detector(blank).component_scores(row) for row in whole[order[:n_out]]]
    typical = tuple(float(value) for value in np.median(np.array(raw, np.float64), axis=0))
    detector = Fitted(normals, typical).detector(blank)
    out = scores(detector, whole[order[:n_out]])
    threshold = max(mean_sigma_threshold(out, k=6.0), conformal_or_largest(out, 0.02)[0])
    if n_out >= 10:
        threshold = conformal_or_largest(out, 0.02)[0]
    judged, faulty = (scores(detector, [one.whole() for one in part]) for part in (unseen, anomaly))
    return threshold, judged, faulty


def _plain(
    blank: Detector, known: Sequence[RecordingSums], unseen: Sequence[RecordingSums], anomaly: Sequence[RecordingSums]
) -> tuple[float, F64, F64]:
    """The rule of the write-ups: mean + 2 sigma of the reconstruction error of the learned recordings."""
    error = Detector([blank.components[0]])

    def errors(recordings: Sequence[RecordingSums]) -> F64:
        return scores(error, [blank.parts(recording.whole())[0] for recording in recordings])

    return mean_sigma_threshold(errors(known), k=2.0), errors(unseen), errors(anomaly)


def verdicts(cells: Sequence[Cell]) -> Iterator[Table | str]:
    """False verdicts and faults found, by set, size and mode."""
    columns = ["set", "n", "drawn", "ideal", "false", "found (worst 5 %)", "share", "as alarm", "0.1.0", "mean + 2 sigma"]
    rows: list[list[object]] = []
    pooled: dict[str, list[tuple[float, float, float, float]]] = {}  # by mode
    for one, n, mode, judged in cells:
        ideal = np.mean([np.mean(j.anomaly > np.quantile(j.normal, 1.0 - IDEAL)) for j in judged])
        false, found = _rates(judged, lambda j: (j.thresholds.file, j.normal, j.anomaly))
        alarms, found_alarms = _rates(judged, lambda j: (j.thresholds.file_alarm or np.inf, j.normal, j.anomaly))
        old, plain = (_rates(judged, rule) for rule in (lambda j: j.old, lambda j: j.plain))
        if n >= POOLED_FROM and not one.name.endswith("under"):
            pooled.setdefault(mode, []).append(
                (float(np.mean(false)), float(np.mean(found)), float(np.quantile(found, 0.05)), float(ideal))
            )
        rates = [f"{np.mean(wrong):.1%} / {np.mean(right):.2f}" for wrong, right in ((alarms, found_alarms), old, plain)]
        worst = f"{np.mean(found):.2f} ({np.quantile(found, 0.05):.2f})"
        share = f"{np.mean(found) / ideal:.2f}" if ideal else "-"
        rows.append([one.name, n, mode, f"{ideal:.2f}", f"{np.mean(false):.1%}", worst, share, *rates])
    yield Table("verdicts", columns, rows)
    for mode, sums in pooled.items():
        false, found, worst, ideal = np.sum(sums, axis=0)
        yield (
            f"{mode}, {POOLED_FROM} recordings or more, all sets but diluted ones: {false / len(sums):.1%} false verdicts, "
            f"found {found / ideal:.2f} of the ideal, {worst / ideal:.2f} in the worst 5 % of draws"
        )


def _rates(judged: Sequence[Judged], rule: Callable[[Judged], tuple[float, F64, F64]]) -> tuple[list[float], list[float]]:
    """The fractions of normal recordings and of faults at or over the rule's threshold, one per draw."""
    found = [rule(one) for one in judged]
    return [float(np.mean(n >= t)) for t, n, _ in found], [float(np.mean(a >= t)) for t, _, a in found]


def streams(cells: Sequence[Cell], recipe: Recipe) -> Iterator[list[object]]:
    """Warnings per day and alarms per month in streams of unseen normal sound, compared with the target rates."""
    rule = recipe.rule(clear_ratio=Rule().clear_ratio)
    for one, n, mode, judged in cells:
        ticks_a_day = 86_400 / recipe.tick_s
        n_ticks = round(STREAM_DAYS * ticks_a_day / len(judged))
        warnings = alarms = total = 0.0
        for number, draw in enumerate(judged):
            stream = _stream(draw.unseen, n_ticks, seed=number)
            found = scores(draw.detector, stream.segments(recipe.segment_ticks))
            warnings += count_events(found / draw.thresholds.segment, rule)
            alarms += count_events(found / (draw.thresholds.alarm or np.inf), rule)
            total += len(stream) / ticks_a_day
        warned = [f"{warnings / total:.2f}", f"{WARNINGS_PER_WEEK / 7:.2g}"]
        yield [one.name, n, mode, f"{total:.1f}", *warned, f"{30 * alarms / total:.1f}", f"{30 * ALARMS_PER_WEEK / 7:.2g}"]


def _stream(recordings: Sequence[RecordingSums], n_ticks: int, *, seed: int) -> RecordingSums:
    """`n_ticks` ticks of recordings drawn at random, one after the other."""
    rng = np.random.default_rng(seed)
    sums = np.concatenate([recordings[int(rng.integers(len(recordings)))].sums for _ in range(n_ticks)][:n_ticks])[:n_ticks]
    step = recordings[0].step_samples
    return replace(recordings[0], sums=sums, levels_dbfs=np.zeros(len(sums)), starts=np.arange(len(sums)) * step)


def spread(cells: Sequence[Cell]) -> Iterator[Table | str]:
    """The spread of unseen normal recordings' log scores, and the prior that fits it best."""
    rows: list[list[object]] = []
    found = []
    for one, n, mode, judged in cells:
        if mode == "random":
            unseen = float(np.mean([np.log(draw.normal).std() for draw in judged]))
            known = float(np.mean([np.log(draw.held_out.file_scores).std(ddof=1) for draw in judged]))
            found.append((n, unseen))
            rows.append([one.name, n, f"{unseen:.2f}", f"{known:.2f}", f"{FUSED_PRIOR.spread(n):.2f}"])
    yield Table("spread", ["set", "n", "unseen", "cross-fitted", "prior"], rows)
    sizes, spreads = np.array(found).T
    limit, per = np.linalg.lstsq(np.stack((np.ones(len(sizes)), 1.0 / sizes), axis=1), spreads, rcond=None)[0]
    yield f"least squares: {limit:.2f} + {per:.2f} / n; in use: {FUSED_PRIOR.limit:g} + {FUSED_PRIOR.per_recording:g} / n"


def tails(cells: Sequence[Cell]) -> Iterator[list[object]]:
    """The share of unseen normal recordings over the level for each probability, which is the promise."""
    over: dict[str, list[F64]] = {}
    for one, n, mode, judged in cells:
        if mode == "random" and n >= POOLED_FROM:
            for draw in judged:
                held_out = draw.held_out
                model = fit_score_model(
                    held_out.file_scores, n_learned=held_out.n_learned, prior=FUSED_PRIOR, drift=held_out.drift
                )
                levels = np.array([model.threshold(chance) for chance in CHANCES])
                over.setdefault(one.name, []).append(np.asarray(draw.normal[:, None] >= levels, np.float64))
    for name, found in {**over, "all": list(chain.from_iterable(over.values()))}.items():
        shares = np.concatenate(found)
        yield [name, len(shares), *(f"{share:.2%}" for share in shares.mean(axis=0))]


def _blank(recipe: Recipe) -> Detector:
    from monitor.bundle.detector import make_detector

    return make_detector(recipe.detector, error=recipe.training.loss, n_bands=recipe.front_end.n_bands, statistics=None)


if __name__ == "__main__":
    main()
