"""Compute all thresholds of a bundle from the scores of normal sound, with a summary in plain words."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from monitor.arrays import F32, F64
from monitor.errors import ConfigError
from monitor.events.decision import Rule
from monitor.learning.false_alarms import NormalScores
from monitor.learning.methods import percentile_threshold
from monitor.learning.predictive import Prior, ScoreModel, fit_score_model
from monitor.learning.report_text import report_text
from monitor.scoring.fast_path import Fast

WARNING_CHANCE = 0.005  # probability that a normal segment exceeds the warning level: about one warning a day
ALARM_CHANCE = 1e-4  # probability that a normal segment exceeds the alarm level: about one alarm a month
FILE_CHANCE = 0.035  # probability that a normal recording exceeds the file threshold
WARNING_MARGIN = 2.0  # the warning level is set for a probability this much smaller, because its model is uncertain, too
WARNINGS_PER_WEEK, ALARMS_PER_WEEK = 7.0, 0.25  # upper limits on the rates after the rule, given these probabilities
FUSED_PRIOR = Prior(limit=0.17, per_recording=1.1, weight=15)  # for a mean of components (benchmarks.decide --part spread)
ERROR_PRIOR = Prior(limit=0.15, per_recording=0.0, weight=5)  # for a plain reconstruction error, which varies less
ENOUGH_RECORDINGS = 12
MIN_FILES = 10  # with fewer recordings, segments are used instead
MIN_MARGIN = 1.001  # relative to the median, because scores of two runtimes differ by up to 0.1 %
SMALLEST = 1e-9
TICK_PERCENTILE = 95.0  # an onset needs several ticks above this percentile
QUIET_PERCENTILE, IDLE_MARGIN_DB = 1.0, 10.0  # a machine this much quieter than its quietest ticks counts as off


@dataclass(frozen=True)
class HeldOut:
    """Scores of normal sound by statistics that were fitted without it.

    `sequences` are the scores of all full segments, one array (n_i,) per recording in chronological order. Each segment joined
    from short recordings is a separate array. `unit_scores` (n,) are the scores of segments that share no sound, `file_scores`
    (m,) those of whole recordings, `tick_scores` and `tick_levels_dbfs` (l,) those of single ticks. `n_learned` is the number
    of recordings or segments to which the statistics were fitted. `drift` is the expected rise of the scores of future sound,
    in log units. The fast path is fitted to `frequent` (k, n_bands), dB.
    """

    sequences: tuple[F64, ...]
    unit_scores: F64
    file_scores: F64
    hours: float
    n_recordings: int
    n_learned: int
    drift: float = 0.0
    tick_scores: F64 = field(default_factory=lambda: np.empty(0))
    tick_levels_dbfs: F64 = field(default_factory=lambda: np.empty(0))
    frequent: F32 = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @property
    def segment_scores(self) -> F64:
        """The scores of all segments (n,)."""
        return np.concatenate((np.empty(0), *self.sequences))


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The thresholds of a method: warning levels of segments and files, alarm levels if the method has them, and notes."""

    segment: float
    file: float
    alarm: float | None = None
    file_alarm: float | None = None
    spread: float | None = None  # of log scores
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds, the data behind them, and the expected rates of false events per week, after the rule."""

    method: str
    parameters: Mapping[str, float]
    threshold: float
    alarm_threshold: float | None
    file_threshold: float
    file_alarm_threshold: float | None
    tick_threshold: float | None  # None: that of segments
    fast_threshold: float | None  # dB; None: no fast path
    idle_below_dbfs: float | None
    clear_ratio: float
    n_segments: int
    n_units: int  # segments that share no sound
    n_blocks: int
    n_recordings: int
    hours: float
    events: int  # in the replay of the sound from which it was computed
    promised_per_week: float | None  # the target of the method
    promised_alarms_per_week: float | None
    supported_per_week: float  # the lowest rate that this sound supports without extrapolation
    bound_95_per_week: float | None  # from that replay; None if the recordings are too short
    score_mean: float  # of the segments' scores
    score_std: float | None  # their standard deviation; None where all are equal
    score_spread: float | None  # of normal recordings' log scores, as assumed by the threshold
    drift: float  # in log units, already included in the thresholds
    statement: str

    def manifest_part(self) -> dict[str, Any]:
        """The `calibration` section of the manifest. `clear_ratio` belongs to the rule."""
        part = {key: value for key, value in vars(self).items() if key != "clear_ratio" and value is not None}
        return {**part, "parameters": dict(self.parameters), "hours": round(self.hours, 4)}


def prior_of(components: Sequence[str]) -> Prior:
    """The prior for a score: for the mean of several components, or for the raw error of one."""
    return FUSED_PRIOR if len(components) > 1 else ERROR_PRIOR


def predicted_thresholds(held_out: HeldOut, *, prior: Prior, min_threshold: float = 0.0) -> Thresholds:
    """The method `default`: predictive quantiles of the log scores of normal recordings (docs/calibration.md).

    No level is below `min_threshold`.
    """
    if len(held_out.unit_scores) < 2:
        raise ConfigError(f"a predicted threshold needs at least 2 segments that share no sound, got {len(held_out.unit_scores)}")
    segments = fit_score_model(held_out.unit_scores, n_learned=held_out.n_learned, prior=prior, drift=held_out.drift)
    files = segments
    if len(held_out.file_scores) >= MIN_FILES:
        files = fit_score_model(held_out.file_scores, n_learned=held_out.n_learned, prior=prior, drift=held_out.drift)

    def level(model: ScoreModel, chance: float) -> float:
        return max(min_threshold, MIN_MARGIN * model.typical, model.threshold(chance))

    return Thresholds(
        segment=level(segments, WARNING_CHANCE / WARNING_MARGIN),
        alarm=level(segments, ALARM_CHANCE),
        file=level(files, FILE_CHANCE),
        file_alarm=level(files, ALARM_CHANCE),
        spread=segments.spread,
        notes=_notes(held_out),
    )


def make_calibration(
    held_out: HeldOut,
    *,
    rule: Rule,
    segment_ticks: int,
    tick_s: float,
    method: str,
    parameters: Mapping[str, float],
    promised_per_week: float | None,
    thresholds_of: Callable[[NormalScores], Thresholds],
    fast: Fast | None = None,
) -> Calibration:
    """Turn the thresholds of a method into a complete calibration. The same scores always give the same result.

    `rule` is the rule that will be applied to the scores; its `clear_ratio` is not used. `tick_s` is the length of a tick in
    seconds. `fast` is the fast path, if there is one.
    """
    if len(held_out.segment_scores) < 2:
        raise ConfigError(f"a threshold needs at least 2 segment scores, got {len(held_out.segment_scores)}")
    normal = NormalScores(sequences=held_out.sequences, rule=rule, segment_ticks=segment_ticks, tick_s=tick_s)
    found = thresholds_of(normal)
    threshold, notes = _above_median(found.segment, normal.scores)
    mean = float(normal.scores.mean())
    clear_ratio = clear_ratio_of(threshold, mean=mean)
    events = normal.events(threshold, replace(rule, clear_ratio=clear_ratio))
    bound = normal.bound_95_per_week(events)
    has_levels = found.alarm is not None
    return Calibration(
        method=method,
        parameters=parameters,
        threshold=threshold,
        alarm_threshold=None if found.alarm is None else max(threshold, found.alarm),
        file_threshold=found.file if has_levels else max(threshold, found.file),
        file_alarm_threshold=None if found.file_alarm is None else max(found.file, found.file_alarm),
        tick_threshold=_tick_threshold(held_out.tick_scores, threshold),
        fast_threshold=None if fast is None else fast.threshold_db,
        idle_below_dbfs=_idle_below_dbfs(held_out.tick_levels_dbfs),
        clear_ratio=clear_ratio,
        n_segments=len(normal.scores),
        n_units=len(held_out.unit_scores),
        n_blocks=len(normal.block_peaks),
        n_recordings=held_out.n_recordings,
        hours=held_out.hours,
        events=events,
        promised_per_week=promised_per_week,
        promised_alarms_per_week=ALARMS_PER_WEEK if has_levels else None,
        supported_per_week=normal.supported_per_week,
        bound_95_per_week=bound,
        score_mean=mean,
        score_std=float(normal.scores.std(ddof=1)) or None if len(normal.scores) > 1 else None,
        score_spread=found.spread,
        drift=held_out.drift,
        statement=report_text(
            promised=promised_per_week,
            promised_alarms=ALARMS_PER_WEEK if has_levels else None,
            file_chance=FILE_CHANCE if has_levels else None,
            events=events,
            bound=bound,
            hours=held_out.hours,
            n_recordings=held_out.n_recordings,
            n_units=len(held_out.unit_scores),
            notes=(*found.notes, *notes, *(() if fast is None else (fast.note,))),
        ),
    )


def clear_ratio_of(threshold: float, *, mean: float) -> float:
    """Half-way between the mean of normal sound and the threshold, but at least the default (docs/decisions/0004)."""
    half_way = (mean + threshold) / 2 / threshold
    return max(Rule().clear_ratio, min(round(half_way, 4), 0.9999))


def _notes(held_out: HeldOut) -> tuple[str, ...]:
    notes = []
    if held_out.n_learned < ENOUGH_RECORDINGS:
        notes.append(
            f"with fewer than {ENOUGH_RECORDINGS} recordings (or 10 s segments of longer ones) only severe faults are detected: "
            "record more normal sound"
        )
    if held_out.drift > 0.0:
        notes.append(
            f"later sound differs from earlier sound, so the thresholds allow for scores {math.exp(held_out.drift):.2f} times "
            "as high: add recordings of other days, loads and speeds to lower them"
        )
    return tuple(notes)


def _tick_threshold(scores: F64, threshold: float) -> float | None:
    """A level that single ticks (n,) of normal sound rarely reach; None if it is below the threshold of segments."""
    if not len(scores):
        return None
    found = percentile_threshold(scores, percentile=TICK_PERCENTILE)
    return found if found > threshold else None


def _idle_below_dbfs(levels_dbfs: F64) -> float | None:
    """The level below which the machine counts as off, based on the levels of its normal ticks (n,)."""
    if not len(levels_dbfs):
        return None
    return round(percentile_threshold(levels_dbfs, percentile=QUIET_PERCENTILE) - IDLE_MARGIN_DB, 1)


def _above_median(threshold: float, scores: F64) -> tuple[float, tuple[str, ...]]:
    """The threshold, raised above the median of normal scores if necessary, and a note if it was raised."""
    floor = max(SMALLEST, MIN_MARGIN * float(np.median(scores)))
    if threshold >= floor:
        return threshold, ()
    return floor, ("the computed threshold is below the median of normal scores, so it was set 0.1 % above the median",)
