"""From what held-out normal sound gave to all thresholds, and a plain statement of what they can promise."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from monitor.core.arrays import F32, F64
from monitor.core.calibration import conformal_needs, conformal_threshold, percentile_threshold
from monitor.core.decision import Rule
from monitor.core.errors import ConfigError
from monitor.core.evidence import Evidence
from monitor.core.fast import Fast
from monitor.core.statement import statement

MIN_MARGIN = 1.001  # of the median: scores of two runtimes differ by up to 0.1 %
SMALLEST = 1e-9
TICK_PERCENTILE = 95.0  # an onset needs several ticks over it
QUIET_PERCENTILE, IDLE_MARGIN_DB = 1.0, 10.0  # a machine that is so much quieter than its quietest ticks is off
Found = tuple[float, tuple[str, ...]]  # a threshold, and what there is to say about it


@dataclass(frozen=True)
class HeldOut:
    """What held-out normal sound gave: segment scores (n,), whole-file scores (m,), segments' mean frames (n, n_bands).

    `sequences` are the segment scores again, one array (n_i,) a recording in order of time; `tick_scores` and
    `tick_levels_dbfs` (l,) are those of single ticks; `frequent` (k, n_bands), dB, what the fast path is fitted on.
    """

    segment_scores: F64
    file_scores: F64
    mean_frames: F64
    hours: float
    sequences: tuple[F64, ...] = ()
    tick_scores: F64 = field(default_factory=lambda: np.empty(0))
    tick_levels_dbfs: F64 = field(default_factory=lambda: np.empty(0))
    frequent: F32 = field(default_factory=lambda: np.empty((0, 0), np.float32))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds, what they rest on and what they promise. Rates are false events a week, after the rule."""

    method: str
    parameters: Mapping[str, float]
    threshold: float
    file_threshold: float
    tick_threshold: float | None  # None: the segments'
    fast_threshold: float | None  # dB; None: no fast path
    idle_below_dbfs: float | None
    clear_ratio: float
    n_segments: int
    n_blocks: int
    n_recordings: int
    hours: float
    events: int  # in the replay of the sound that it was set on
    promised_per_week: float | None  # what the method aims at
    supported_per_week: float  # the smallest rate that this sound supports without extrapolation
    bound_95_per_week: float | None  # what that replay shows; None where recordings are too short for it
    score_mean: float  # of the segments' scores
    score_std: float | None  # their standard deviation; None where they are all alike
    statement: str

    def manifest_part(self) -> dict[str, Any]:
        """What the manifest says of it; `clear_ratio` is part of its rule."""
        part = {key: value for key, value in vars(self).items() if key != "clear_ratio" and value is not None}
        return {**part, "parameters": dict(self.parameters), "hours": round(self.hours, 4)}


def settle(
    held_out: HeldOut,
    *,
    rule: Rule,
    segment_ticks: int,
    tick_s: float,
    method: str,
    parameters: Mapping[str, float],
    promised_per_week: float | None,
    threshold_of: Callable[[Evidence], Found],
    file_threshold_of: Callable[[float], float] | None = None,
    fast: Fast | None = None,
) -> Calibration:
    """Everything that follows from a method's threshold for segments; the same scores always give the same result.

    `rule` is what will judge the scores, its `clear_ratio` aside; `tick_s` is the length of a tick in seconds. The
    threshold for whole files, from that for segments, is never below it. `fast` is the fast path, where there is one.
    """
    if len(held_out.segment_scores) < 2:
        raise ConfigError(f"a threshold needs at least 2 segment scores, got {len(held_out.segment_scores)}")
    sequences = held_out.sequences or (held_out.segment_scores,)
    evidence = Evidence(sequences=sequences, rule=rule, segment_ticks=segment_ticks, tick_s=tick_s)
    found, notes = threshold_of(evidence)
    threshold, floor_notes = _positive(found, evidence.scores)
    file_threshold = threshold if file_threshold_of is None else max(threshold, file_threshold_of(threshold))
    mean = float(evidence.scores.mean())
    clear_ratio = clear_ratio_of(threshold, mean=mean)
    events = evidence.events(threshold, replace(rule, clear_ratio=clear_ratio))
    bound = evidence.bound_95_per_week(events)
    return Calibration(
        method=method,
        parameters=parameters,
        threshold=threshold,
        file_threshold=file_threshold,
        tick_threshold=_tick_threshold(held_out.tick_scores, threshold),
        fast_threshold=None if fast is None else fast.threshold_db,
        idle_below_dbfs=_idle_below_dbfs(held_out.tick_levels_dbfs),
        clear_ratio=clear_ratio,
        n_segments=len(evidence.scores),
        n_blocks=len(evidence.block_peaks),
        n_recordings=len(sequences),
        hours=held_out.hours,
        events=events,
        promised_per_week=promised_per_week,
        supported_per_week=evidence.supported_per_week,
        bound_95_per_week=bound,
        score_mean=mean,
        score_std=float(evidence.scores.std(ddof=1)) or None,
        statement=statement(
            promised=promised_per_week,
            events=events,
            bound=bound,
            hours=held_out.hours,
            n_blocks=len(evidence.block_peaks),
            notes=notes + floor_notes + (() if fast is None else (fast.note,)),
        ),
    )


def clear_ratio_of(threshold: float, *, mean: float) -> float:
    """Half way between normal sound's mean and the threshold where that is above the default (docs/decisions/0004)."""
    half_way = (mean + threshold) / 2 / threshold
    return max(Rule().clear_ratio, min(round(half_way, 4), 0.9999))


def conformal_or_largest(peaks: F64, false_alarm: float) -> Found:
    """Just above the conformal threshold over blocks (a ratio of 1 is over), or above the largest where they are few."""
    needs = conformal_needs(false_alarm)
    if len(peaks) >= needs:
        return math.nextafter(conformal_threshold(peaks, false_alarm=false_alarm), math.inf), ()
    note = f"a chance of {false_alarm:.2g} a block needs {needs} blocks, so the largest score of the {len(peaks)} counts"
    return math.nextafter(float(peaks.max()), math.inf), (note,)


def _tick_threshold(scores: F64, threshold: float) -> float | None:
    """What single ticks (n,) of normal sound rarely reach, where that is above the segments' threshold."""
    if not len(scores):
        return None
    found = percentile_threshold(scores, percentile=TICK_PERCENTILE)
    return found if found > threshold else None


def _idle_below_dbfs(levels_dbfs: F64) -> float | None:
    """The level under which the machine counts as off, from those of its normal ticks (n,)."""
    if not len(levels_dbfs):
        return None
    return round(percentile_threshold(levels_dbfs, percentile=QUIET_PERCENTILE) - IDLE_MARGIN_DB, 1)


def _positive(threshold: float, scores: F64) -> Found:
    """A threshold above 0 and above what ordinary normal segments score."""
    floor = max(SMALLEST, MIN_MARGIN * float(np.median(scores)))
    if threshold >= floor:
        return threshold, ()
    return floor, ("normal scores leave no room, so the threshold is 0.1 % above their median",)
