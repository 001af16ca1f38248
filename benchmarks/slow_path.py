"""The slow path: false warnings over 100 days, and faults below healthy sound that segments do not detect.

    python -m benchmarks.slow_path [--parts days,hours,compressor]

The recipe is `default`, learned as `monitor learn` does: the network was trained on another machine. Segments raise a warning
above the warning level of docs/calibration.md, with the rule 12 of 20.

days        Four synthetic machines are learned from 40 takes of 10 s. The slow path learns their level on the first day, which
            is followed by 100 days of monitoring. The scores are those of 60 other takes of 2 minutes with 4 bangs per hour.
            They are computed by the device's scorer at offsets of -4 to 4 dB of gain and -2 to 2 dB of tilt (from the lowest to
            the highest band), and interpolated in between. A change of load is a change to another take, every 5 to 120 minutes,
            so that 15 minutes are mostly within one take. The gain is the sum of a random walk with a standard deviation of
            `--gain-db`, which reverts to its mean within 2 days, and a daily sine with that amplitude. The same applies to the
            tilt with `--tilt-db`. Takes are repeated cyclically.
hours       For the same machines: how often the median exceeds the limit, by the number of hours learned and by the formula of
            the limit.
compressor  Faults of ../shared/data/air-compressor mixed below healthy clips. They are attenuated, never amplified, so that
            they are 6 or 12 dB below the healthy clip. Each draw learns from segments of 60 healthy clips, in their order. The
            slow path learns the level on site from the other 60, which are also used for mixing. With 30 clips for each
            purpose, their contents would happen to differ by a decibel in narrow bands. The control mixes healthy clips.
            Streams are clips in random order. Because sums of ticks are additive, a segment of clips is scored like any other.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.random import Generator

from benchmarks.report import Table, make_parser, publish
from benchmarks.sounds.decide_data import Listener, learn
from monitor.arrays import F32, F64
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.events.decision import Rule, RuleState, decide
from monitor.events.slow_path import HOURS, MINUTES, SlowPath, SlowState, fit_normal_level
from monitor.explain.profile import level
from monitor.learning.measured import RecordingSums
from monitor.scoring.components import Detector
from monitor.scoring.features import FeatureExtractor, TickFrames
from monitor.scoring.scorer import Scorer
from train.recipes.recipe import Recipe, load_recipe
from train.synth import MACHINES, Growth, Scene

RATE_HZ = 16000
COMPRESSOR = Path(__file__).parents[2] / "shared" / "data" / "air-compressor"
FAULTS = ("bearing", "flywheel", "liv")  # liv: leaking inlet valve
GAINS_DB, TILTS_DB = (-4.0, -2.0, 0.0, 2.0, 4.0), (-2.0, 0.0, 2.0)
N_TAKES, TAKE_S = 40, 120.0
SILENT_S = 1.0  # a take begins with silence, which is not sound of the machine
WEEK_H = 168.0


@dataclass(frozen=True)
class Subject:
    """A detector that has learned, and the mean score of its held-out sound."""

    detector: Detector
    limits_hz: F64
    typical: float
    tick_s: float
    warning: float  # score above which a segment counts as a warning

    def slow_path(self, state: SlowState | None = None) -> SlowPath:
        """A new slow path for it, or one that resumes from a state."""
        return SlowPath(tick_s=self.tick_s, segment_ticks=10, typical=self.typical, limits_hz=self.limits_hz, state=state)


@dataclass(frozen=True)
class Clip:
    """The sums of a clip tick by tick (n, k), and its level (n_bands,), dB, in sharp bands."""

    sums: F64
    level_db: F64


def main() -> None:
    """Print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--parts", default="days,compressor")
    parser.add_argument("--gain-db", type=float, default=1.0, help="standard deviation (default: %(default)s)")
    parser.add_argument("--tilt-db", type=float, default=0.25, help="standard deviation (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of 100 days, or draws of clips (default: %(default)s)")
    arguments = parser.parse_args()
    publish(tables(arguments), arguments.json)


def tables(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """The selected tables, and how long they took."""
    began_s = time.monotonic()
    listener, parts = Listener(load_recipe("default")), arguments.parts.split(",")
    if "days" in parts or "hours" in parts:
        machines = {name: synthetic(name, listener) for name in MACHINES}
        if "days" in parts:
            yield days_table(machines, gain_db=arguments.gain_db, tilt_db=arguments.tilt_db, runs=arguments.runs)
        if "hours" in parts:
            yield hours_table(machines, gain_db=arguments.gain_db, tilt_db=arguments.tilt_db, runs=10 * arguments.runs)
    if "compressor" in parts and COMPRESSOR.is_dir():
        yield compressor_table(listener, runs=arguments.runs)
    elif "compressor" in parts:
        yield f"{COMPRESSOR.name} is not in ../shared/data: no faults to mix"
    yield f"{time.monotonic() - began_s:.0f} s"


def subject_of(listener: Listener, known: Sequence[RecordingSums]) -> Subject:
    """Learn from recordings in chronological order. The typical score is the mean of their cross-fitted scores."""
    recipe = listener.recipe
    learned = learn(listener.scorer.detector, known, recipe)
    typical = float(learned.held_out.segment_scores.mean())
    limits_hz = recipe.front_end.band_limits_hz()
    return Subject(learned.detector, limits_hz, typical, recipe.tick_s, learned.thresholds.segment)


def measure(scorer: Scorer, sound: F32) -> Clip:
    """Measure a clip as a separate stream."""
    scorer.reset()
    sums: list[F64] = []
    for tick in (*scorer.extract(Block(0, sound)), *scorer.extract_last()):
        if scorer.score_tick(tick).reason is None:
            whole = scorer.file_sums()
            assert whole is not None
            sums.append(whole - sum(sums))
    return Clip(np.array(sums), level(scorer.sounds(), scorer.spec.front_end))


def score_of(detector: Detector, sums: F64) -> float:
    """The score of sums of ticks."""
    score = detector.score(sums)
    assert score is not None
    return score


# ---- days


@dataclass(frozen=True)
class Takes:
    """Log scores (n_gains, n_tilts, n_takes, n_ticks) of takes at offsets, and their levels (n_takes, n_bands), dB."""

    logs: F64
    levels_db: F64


@dataclass(frozen=True)
class Days:
    """The result of 100 days."""

    weeks: float
    warnings: int
    most_a_week: int  # maximum within any seven days
    limits_passed: int  # whether or not a differing band was found
    segment_events: int
    status: str
    normal: float  # as a multiple of the typical score
    limit: float  # as a multiple of the normal level
    spread: float  # of later 15-minute medians around the learned level, log units
    largest: float  # largest of these medians, as a multiple of the limit


def days_table(machines: Mapping[str, tuple[Subject, Takes]], *, gain_db: float, tilt_db: float, runs: int) -> Table:
    """False warnings on synthetic machines."""
    columns = ["machine", "normal / typical", "limit / normal", "spread later", "largest median / limit", "over the limit"]
    columns += ["warnings, most in a week", "segments' events a week"]
    rows = (
        [name, *cells(hear_days(subject, takes, np.random.default_rng([run, 7]), gain_db=gain_db, tilt_db=tilt_db))]
        for name, (subject, takes) in machines.items()
        for run in range(runs)
    )
    return Table("days", columns, rows)


def cells(days: Days) -> list[object]:
    """The cells of a table row."""
    learned = [f"{days.normal:.2f} ({days.status})", *(f"{value:.2f}" for value in (days.limit, days.spread, days.largest))]
    return [*learned, days.limits_passed, f"{days.warnings}, {days.most_a_week}", f"{days.segment_events / days.weeks:.1f}"]


def hours_table(machines: Mapping[str, tuple[Subject, Takes]], *, gain_db: float, tilt_db: float, runs: int) -> Table:
    """How often 15-minute medians exceed the limit, with or without a band, by hours learned and formula of the limit."""
    title = "hours: times a week that the limit is exceeded, with or without a band (limit / normal)"
    columns = ["machine", "gain, tilt, dB", "hours", "folds", "mean + t x deviation", "2 x normal"]
    by_machine = (hours_rows(name, takes, gain_db=gain_db, tilt_db=tilt_db, runs=runs) for name, (_, takes) in machines.items())
    return Table(title, columns, chain.from_iterable(by_machine))


def hours_rows(name: str, takes: Takes, *, gain_db: float, tilt_db: float, runs: int) -> Iterator[list[object]]:
    """The rows of one machine."""
    medians = np.median(takes.logs, axis=3, keepdims=True)
    for times in (1.0, 2.0):
        streams = [
            list(quarters(medians, np.random.default_rng([run, 8]), gain_db=times * gain_db, tilt_db=times * tilt_db))
            for run in range(runs)
        ]
        for hours in (4, 8, 12, 24):
            n = hours * 60 // MINUTES
            limits: dict[str, list[float]] = {"folds": [], "plain": [], "2 x normal": []}
            passed = dict.fromkeys(limits, 0)
            for stream_of in streams:
                learned, later = np.array(stream_of[:n]), np.array(stream_of[n:])
                # The factor is that of Student's t as above, approximately, for 31 degrees of freedom.
                plain = 3.65 * learned.std(ddof=1) * np.sqrt(1.0 + 1.0 / n)
                own = {
                    "folds": np.log(fit_normal_level(np.exp(learned).tolist()).limit),
                    "plain": learned.mean() + plain,
                    "2 x normal": np.median(learned) + np.log(2.0),
                }
                for key, limit in own.items():
                    over = later >= limit
                    passed[key] += int(np.sum(over[1:] & ~over[:-1]))
                    limits[key].append(float(np.exp(limit - np.median(learned))))
            weeks = runs * 100.0 / 7.0
            rates = [f"{passed[key] / weeks:.2f} ({np.median(limits[key]):.2f})" for key in limits]
            yield [name, f"{times * gain_db:g}, {times * tilt_db:g}", hours, *rates]


def quarters(medians: F64, rng: Generator, *, gain_db: float, tilt_db: float, days: int = 101) -> Iterator[float]:
    """The log medians of consecutive 15 minutes."""
    n_minutes, left, take = days * 1440, 0, 0
    offsets = zip(wander(n_minutes, gain_db, rng), wander(n_minutes, tilt_db, rng), strict=True)
    for minute, (gain, tilt) in enumerate(offsets):
        if left == 0:
            take, left = int(rng.integers(medians.shape[2])), int(rng.integers(5, 121))
        left -= 1
        if minute % MINUTES == MINUTES // 2:
            yield float(interpolated(medians[:, :, take], gain, tilt)[0])


def synthetic(name: str, listener: Listener) -> tuple[Subject, Takes]:
    """A synthetic machine that was learned, and other takes of it."""
    machine = MACHINES[name](101)

    def sound(take: int, seconds: float, bangs_per_hour: float = 0.0) -> F32:
        scene = Scene(machine=machine, take=take, growth=Growth(), bangs_per_hour=bangs_per_hour)
        return np.concatenate(list(scene.chunks(SILENT_S + seconds)))[round(SILENT_S * RATE_HZ) :]

    subject = subject_of(listener, [listener.measured(listener.frames(sound(take, 10.0))) for take in range(40)])
    blank, listener.scorer.detector = listener.scorer.detector, subject.detector
    takes = [offset_scores(listener.scorer, listener.recipe, sound(1000 + take, TAKE_S, 4.0)) for take in range(N_TAKES)]
    listener.scorer.detector = blank
    return subject, Takes(np.stack([logs for logs, _ in takes], axis=2), np.array([level for _, level in takes]))


def offset_scores(scorer: Scorer, recipe: Recipe, sound: F32) -> tuple[F64, F64]:
    """Log scores (n_gains, n_tilts, n_ticks) of full segments at each offset, and the mean level (n_bands,), dB, at none."""
    ear = FeatureExtractor(recipe.front_end, tick_frames=recipe.tick_frames)
    ticks = [replace(tick, samples=np.zeros_like(tick.samples)) for tick in ear.push(Block(0, sound))]
    scorer.reset()
    levels = [
        level(scorer.sounds(), recipe.front_end)
        for i, _ in enumerate(scorer.push(Block(0, sound)), 1)
        if i % recipe.segment_ticks == 0
    ]
    logs = [[list(_logs(scorer, ticks, gain + tilt * ramp(recipe))) for tilt in TILTS_DB] for gain in GAINS_DB]
    return np.array(logs), np.mean(levels, axis=0)


def _logs(scorer: Scorer, ticks: Sequence[TickFrames], offset_db: F64) -> Iterator[float]:
    scorer.reset()
    for tick in ticks:
        assert tick.frames is not None
        scored = scorer.score_tick(replace(tick, frames=tick.frames + offset_db.astype(np.float32)))
        if scored.score is not None and scored.n_ticks == scorer.spec.segment_ticks:
            yield float(np.log(scored.score))


def ramp(recipe: Recipe) -> F64:
    """A ramp from -0.5 in the lowest band to 0.5 in the highest."""
    return np.linspace(-0.5, 0.5, recipe.front_end.n_bands)


def hear_days(subject: Subject, takes: Takes, rng: Generator, *, gain_db: float, tilt_db: float, days: float = 100.0) -> Days:
    """Learn, then monitor for this many days."""
    slow, rule, counts = subject.slow_path(), Rule(), RuleState()
    n_takes, n_ticks = takes.logs.shape[2:]
    ticks_a_minute = round(60.0 / subject.tick_s)
    n_minutes = round(HOURS * 60 + days * 1440) + MINUTES
    offsets = zip(wander(n_minutes, gain_db, rng), wander(n_minutes, tilt_db, rng), strict=True)
    slope = np.linspace(-0.5, 0.5, takes.levels_db.shape[1])
    raised_at: list[int] = []
    passed = events = left = 0
    was_over = was_raised = False
    later: list[float] = []
    for minute, (gain, tilt) in enumerate(offsets):
        if left == 0:
            take, at, left = int(rng.integers(n_takes)), int(rng.integers(n_ticks)), int(rng.integers(5, 121))
        left -= 1
        scores = np.exp(interpolated(takes.logs[:, :, take, (at + np.arange(ticks_a_minute)) % n_ticks], gain, tilt))
        at += ticks_a_minute
        level_of = partial(np.add, takes.levels_db[take], gain + tilt * slope)
        ratios = scores / subject.warning
        quiet = not counts.raised and ratios.max() < 1.0
        for score, ratio in zip(scores.tolist(), ratios.tolist(), strict=True):
            if not quiet:
                before, counts = counts.raised, decide(rule, counts, ratio)
                events += counts.raised and not before
            if not counts.raised or slow.raised:
                slow.push(score, start=minute, is_normal=ratio < 1.0, level_db=level_of)
        if quiet:
            counts = RuleState()
        if slow.raised and not was_raised:
            raised_at.append(minute)
        over = (slow.ratio or 0.0) >= 1.0
        passed += over and not was_over
        was_over, was_raised = over, slow.raised
        if slow.median is not None and minute % MINUTES == 0:
            later.append(slow.median)
    assert slow.normal_level is not None
    logs = np.log(np.array(later) / slow.normal_level.normal)
    return Days(
        weeks=days / 7,
        warnings=len(raised_at),
        most_a_week=max((sum(0 <= other - one < 10080 for other in raised_at) for one in raised_at), default=0),
        limits_passed=passed,
        segment_events=events,
        status=slow.status,
        normal=slow.normal_level.normal / subject.typical,
        limit=slow.normal_level.limit / slow.normal_level.normal,
        spread=float(np.sqrt(np.mean(logs**2))),
        largest=float(np.exp(logs.max()) * slow.normal_level.normal / slow.normal_level.limit),
    )


def interpolated(logs: F64, gain: float, tilt: float) -> F64:
    """Log scores (n,) at an offset, interpolated between those (n_gains, n_tilts, n) around it."""
    for grid, value in ((GAINS_DB, gain), (TILTS_DB, tilt)):
        at = float(np.clip(np.interp(value, grid, range(len(grid))), 0, len(grid) - 1 - 1e-9))
        logs = logs[int(at)] + (at - int(at)) * (logs[int(at) + 1] - logs[int(at)])
    return logs


def wander(n_minutes: int, spread_db: float, rng: Generator) -> Iterator[float]:
    """A mean-reverting random walk with a time constant of 2 days, plus a daily cycle, both of this spread, minute by minute."""
    keep = np.exp(-1.0 / (2 * 1440))
    value, phase = float(spread_db * rng.standard_normal()), rng.uniform(0.0, 2 * np.pi)
    steps = spread_db * np.sqrt(1.0 - keep**2) * rng.standard_normal(n_minutes)
    for minute, step in enumerate(steps):
        value = keep * value + step
        yield float(value + spread_db * np.sin(2 * np.pi * minute / 1440 + phase))


@dataclass(frozen=True)
class Found:
    """The result of a stream of 15 minutes.

    Contains the minutes of the warning and of the segments' event, or None if there was none.
    """

    slow_minute: int | None
    segments_minute: int | None
    ratio: float  # last median / limit
    normal: float  # learned level / typical score


def compressor_table(listener: Listener, *, runs: int) -> Table:
    """The results for faults below healthy sound."""
    sounds = {path.stem: resampled(path) for path in sorted(COMPRESSOR.glob("*/*.flac"))}
    healthy = [sound for name, sound in sounds.items() if name.split("_")[0] not in FAULTS]
    scorer = listener.scorer
    clean = [measure(scorer, sound) for sound in healthy]
    mixed = {("nothing", 0.0): clean}
    for fault in (*FAULTS, "healthy"):
        other = [sound for name, sound in sounds.items() if name.split("_")[0] == fault] or healthy
        mixed |= {(fault, below_db): mixtures(scorer, healthy, other, below_db) for below_db in (6.0, 12.0)}
    found: dict[tuple[str, float], list[Found]] = {key: [] for key in mixed}
    for run in range(runs):
        for key, one in one_draw(listener, mixed, run).items():
            found[key].append(one)
    columns = ["under healthy sound", "dB below", "draws", "normal / typical", "median / limit", "segments", "slow path"]
    rows = [[fault, f"{below_db:g}", *in_words(draws)] for (fault, below_db), draws in found.items()]
    return Table("compressor", [*columns, "of what segments miss", "minute"], rows)


def mixtures(scorer: Scorer, healthy: Sequence[F32], other: Sequence[F32], below_db: float) -> list[Clip]:
    """Another clip, chosen at random, mixed below each healthy one."""
    rng = np.random.default_rng(round(below_db))
    return [measure(scorer, mix(sound, other[int(rng.integers(len(other)))], below_db)) for sound in healthy]


def in_words(found: Sequence[Found]) -> list[object]:
    """The cells of a table row."""
    slow = [one.slow_minute for one in found if one.slow_minute is not None]
    segments = [one for one in found if one.segments_minute is not None]
    ratio, normal = (np.median(values) for values in ([one.ratio for one in found], [one.normal for one in found]))
    missed = [one.slow_minute for one in found if one.segments_minute is None]
    of_missed = f"{len(missed) - missed.count(None)} of {len(missed)}"
    shares = [f"{len(one) / len(found):.0%}" for one in (segments, slow)]
    return [len(found), f"{normal:.2f}", f"{ratio:.2f}", *shares, of_missed, max(slow, default="-")]


def resampled(path: Path) -> F32:
    """A recording at the recipe's sample rate."""
    return np.asarray(np.concatenate([block.samples for block in Recording(path, sample_rate_hz=RATE_HZ).blocks()]), np.float32)


def one_draw(listener: Listener, mixed: dict[tuple[str, float], list[Clip]], run: int) -> dict[tuple[str, float], Found]:
    """Learn from half of the healthy clips, learn the level from the other half, and monitor its mixtures for 15 minutes."""
    rng = np.random.default_rng(run)
    healthy = mixed["nothing", 0.0]
    training, others = np.split(rng.permutation(len(healthy)), 2)
    heard = np.concatenate([healthy[i].sums for i in np.sort(training)])
    subject = subject_of(listener, [listener.recording(heard)])
    learned = subject.slow_path()
    for ticks, (score, level_db) in enumerate(stream(subject, [healthy[i] for i in others], HOURS + (MINUTES + 1) / 60, rng)):
        learned.push(score, start=ticks, is_normal=score < subject.warning, level_db=partial(np.copy, level_db))
    assert learned.normal_level is not None, f"{learned.missing_h:g} h are missing"
    return {key: watch(subject, learned.state(), [clips[i] for i in others], rng) for key, clips in mixed.items()}


def watch(subject: Subject, state: SlowState, clips: Sequence[Clip], rng: Generator) -> Found:
    """Monitor a stream of clips for 15 minutes, after 15 minutes of normal sound."""
    slow, rule, counts = subject.slow_path(state), Rule(), RuleState()
    slow_minute = segments_minute = None
    for ticks, (score, level_db) in enumerate(stream(subject, clips, MINUTES / 60, rng)):
        counts = decide(rule, counts, score / subject.warning)
        slow.push(score, start=ticks, is_normal=False, level_db=partial(np.copy, level_db))
        minute = int(np.ceil(ticks * subject.tick_s / 60))
        segments_minute = minute if segments_minute is None and counts.raised else segments_minute
        slow_minute = minute if slow_minute is None and slow.raised else slow_minute
    assert slow.normal_level is not None
    return Found(slow_minute, segments_minute, slow.ratio or 0.0, slow.normal_level.normal / subject.typical)


def mix(sound: F32, added: F32, below_db: float) -> F32:
    """A clip mixed below another: attenuated until it is `below_db` quieter, never amplified."""
    n = min(len(sound), len(added))
    gain = np.sqrt(np.mean(sound[:n] ** 2) / np.mean(added[:n] ** 2)) * 10.0 ** (-below_db / 20.0)
    return np.asarray(sound[:n] + np.float32(min(1.0, gain)) * added[:n], np.float32)


def stream(subject: Subject, clips: Sequence[Clip], hours: float, rng: Generator) -> Iterator[tuple[float, F64]]:
    """The scores of segments of clips in random order, one per tick, and the level (n_bands,), dB, of the clips in each."""
    n_ticks = round(hours * 3600 / subject.tick_s)
    segment: list[F64] = []
    levels: list[F64] = []
    done = 0
    while done < n_ticks:
        clip = clips[int(rng.integers(len(clips)))]
        levels = [*levels, clip.level_db][-4:]
        mean_db = 10.0 * np.log10(np.mean(10.0 ** (np.array(levels) / 10.0), axis=0))
        for sums in clip.sums:
            segment = [*segment, sums][-10:]
            if len(segment) == 10:
                yield score_of(subject.detector, np.sum(segment, axis=0)), mean_db
                done += 1


if __name__ == "__main__":
    main()
