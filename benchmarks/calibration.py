"""Thresholds of every method: conformal thresholds against theory, and false events per day on synthetic scores.

    python -m benchmarks.calibration

The first part compares the realised rates of 200 conformal thresholds (a = 1 %, n = 1000 independent scores) with their
theoretical distribution, Beta(n + 1 - rank, rank). The second part uses segment scores that overlap as on the device: means
over 10 synthetic tick scores, with ticks of 1.024 s. Each of 31 draws calibrates on one hour and evaluates on four other
days. A bang raises the score of one tick, both in the calibration sound and in the evaluation sound.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import stats

from benchmarks.report import Table, make_parser, publish
from monitor.arrays import F64, Bool
from monitor.events.decision import Rule
from monitor.learning.methods import conformal_rank, conformal_threshold
from monitor.learning.thresholds import Calibration, HeldOut
from train.calibration.thresholds import calibrate
from train.recipes.method import Method

TICK_S = 1.024
SEGMENT_TICKS = 10
DAY = round(86400 / TICK_S)
DAYS, DRAWS, BANGS_A_DAY, BANG = 4, 31, 20, 20.0
RULES = (Rule(raise_k=3, raise_n=5), Rule(raise_k=12, raise_n=20))
METHODS = (
    Method(name="mean+k*sigma", k=2.0),
    Method(name="mean+k*sigma", k=4.0),
    Method(name="percentile", percentile=99.9),
    Method(name="gamma", false_alarm=0.01),
    Method(name="conformal", false_alarm=0.01),
    Method(name="pot"),
    Method(name="default"),
)
SOUNDS: dict[str, Callable[[Generator, int], F64]] = {
    "gamma": lambda rng, n: rng.gamma(4.0, 0.25, n),
    "lognormal": lambda rng, n: rng.lognormal(0.0, 0.5, n),
}


@dataclass(frozen=True)
class Outcome:
    """The result of a calibration: fraction of segments over, false events per day, threshold in sigma of clean sound."""

    segments: float
    events: float
    sigma: float


def main() -> None:
    """Print the p-value and the tables."""
    publish(measure(), make_parser(__doc__).parse_args().json)


def measure() -> Iterator[Table | str]:
    """The p-value and the tables."""
    rates = conformal_rates(np.random.default_rng(0), n=1000, false_alarm=0.01, draws=200)
    low, middle, high = np.quantile(rates, (0.05, 0.5, 0.95))
    p_value = beta_p_value(rates, n=1000, false_alarm=0.01)
    yield (
        f"conformal, a = 1 %, n = 1000, 200 draws: median {middle:.2%}, 90 % of them in {low:.2%} to {high:.2%}; "
        f"Kolmogorov-Smirnov against Beta: p = {p_value:.3f}"
    )
    for sound, make in SOUNDS.items():
        yield Table(
            f"{sound} ticks, median (90th percentile) of {DRAWS} calibrations on one hour, {DAYS} days each",
            ["method", "rule", "segments over", "events/day", "with bangs", "threshold, sigma", "with bangs"],
            rows_of(make),
        )


def rows_of(make: Callable[[Generator, int], F64]) -> Iterator[list[str]]:
    """The rows of a sound, one per rule and method."""
    for rule in RULES:
        outcomes = [simulate(make, rule, bangs_a_day=bangs) for bangs in (0, BANGS_A_DAY)]
        for method, quiet, banged in zip(METHODS, *outcomes, strict=True):
            number = "".join(f" {value:g}" for value in method.parameters.values() if method.name not in ("default", "pot"))
            columns = (cell(quiet, "segments", "{:.3%}"), *(cell(o, "events", "{:.2g}") for o in (quiet, banged)))
            sigmas = (cell(o, "sigma", "{:.1f}") for o in (quiet, banged))
            yield [f"{method.name}{number}", f"{rule.raise_k} of {rule.raise_n}", *columns, *sigmas]


def cell(outcomes: list[Outcome], key: str, shape: str) -> str:
    """Median and 90th percentile."""
    values = [getattr(outcome, key) for outcome in outcomes]
    return " ".join((shape.format(np.median(values)), f"({shape.format(np.quantile(values, 0.9))})"))


def conformal_rates(rng: Generator, *, n: int, false_alarm: float, draws: int) -> F64:
    """The true false-alarm rates (draws,) of thresholds set on n independent standard normal scores."""
    found = [conformal_threshold(rng.standard_normal(n), false_alarm=false_alarm) for _ in range(draws)]
    return np.asarray(stats.norm.sf(found), np.float64)


def beta_p_value(rates: F64, *, n: int, false_alarm: float) -> float:
    """The p-value of a Kolmogorov-Smirnov test of the rates against their theoretical distribution."""
    rank = conformal_rank(n, false_alarm=false_alarm)
    return float(stats.kstest(rates, stats.beta(n + 1 - rank, rank).cdf).pvalue)


def simulate(make: Callable[[Generator, int], F64], rule: Rule, *, bangs_a_day: int) -> list[list[Outcome]]:
    """The outcomes of each method, one per draw. Every method and rule gets the same sound."""
    rows: list[list[Outcome]] = [[] for _ in METHODS]
    for draw in range(DRAWS):
        rng = np.random.default_rng((draw, bangs_a_day))
        clean = segment_scores(make(rng, DAY))
        normal, later = (segment_scores(bang(make(rng, n), rng, bangs_a_day)) for n in (DAY // 24, DAYS * DAY))
        for method, row in zip(METHODS, rows, strict=True):
            found = set_thresholds(normal, rule, method)
            ratios = later / found.threshold
            judge = Rule(raise_k=rule.raise_k, raise_n=rule.raise_n, clear_ratio=found.clear_ratio)
            sigma = (found.threshold - clean.mean()) / clean.std()
            row.append(Outcome(float(np.mean(ratios >= 1.0)), len(raises(ratios, judge)) / DAYS, float(sigma)))
    return rows


def bang(ticks: F64, rng: Generator, bangs_a_day: int) -> F64:
    """Tick scores (n,) of which randomly chosen ones are raised, on average this many per day."""
    return np.where(rng.random(len(ticks)) < bangs_a_day / DAY, BANG * ticks, ticks)


def segment_scores(ticks: F64) -> F64:
    """The scores of overlapping segments: the mean over each `SEGMENT_TICKS` of tick scores (n,)."""
    sums = np.cumsum(np.concatenate(([0.0], ticks)))
    return np.asarray((sums[SEGMENT_TICKS:] - sums[:-SEGMENT_TICKS]) / SEGMENT_TICKS)


def set_thresholds(scores: F64, rule: Rule, method: Method) -> Calibration:
    """Calibrate on one recording's segment scores (n,)."""
    units = scores[::SEGMENT_TICKS]
    held_out = HeldOut(
        sequences=(scores,),
        unit_scores=units,
        file_scores=np.array([scores.mean()]),
        hours=len(scores) * TICK_S / 3600,
        n_recordings=1,
        n_learned=len(units),
    )
    return calibrate(held_out, rule=rule, segment_ticks=SEGMENT_TICKS, tick_s=TICK_S, method=method)


def raises(ratios: F64, rule: Rule) -> list[int]:
    """The positions in ratios (n,) at which the rule raises, as by `monitor.events.decision.decide`, but per event."""
    over = np.concatenate(([0], np.cumsum(ratios >= 1.0)))
    hits = np.flatnonzero(in_last(ratios >= 1.0, rule.raise_n) >= rule.raise_k)
    clears = np.flatnonzero(in_last(ratios < rule.clear_ratio, rule.clear_m) == rule.clear_m)
    found: list[int] = []
    start = 0  # everything before is ignored
    while start < len(ratios):
        settled = min(start + rule.raise_n, len(ratios))
        early = start + int(np.searchsorted(over[start + 1 : settled + 1], over[start] + rule.raise_k))
        at = early if early < settled else first(hits, settled)
        if at is None:
            break
        found.append(at)
        clear = first(clears, at)
        if clear is None:
            break
        start = clear + 1
    return found


def in_last(flags: Bool, n: int) -> F64:
    """The number of the last n flags that are set, after each flag (m,)."""
    sums = np.cumsum(flags, dtype=np.float64)
    return sums - np.concatenate((np.zeros(min(n, len(sums))), sums[:-n]))


def first(positions: np.typing.NDArray[np.intp], at: int) -> int | None:
    """The first of the sorted positions that is at least `at`; None if there is none."""
    i = int(np.searchsorted(positions, at))
    return int(positions[i]) if i < len(positions) else None


if __name__ == "__main__":
    main()
