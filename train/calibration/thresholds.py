"""From held-out normal scores to both thresholds, and a plain statement of what they can promise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from monitor.core.arrays import F64
from monitor.core.calibration import conformal_needs, conformal_threshold, mean_sigma_threshold, percentile_threshold
from monitor.core.decision import Rule
from monitor.core.errors import ConfigError
from train.calibrate import MIN_FILES, HeldOut
from train.calibration.evidence import Evidence
from train.calibration.method import Method, MethodName
from train.calibration.statement import statement
from train.calibration.tails import fit_tail, gamma_quantile

FALLBACK_SIGMA = 6.0
MIN_MARGIN = 1.001  # of the median: scores of two runtimes differ by up to 0.1 %
SMALLEST = 1e-9
TICK_PERCENTILE = 95.0  # an onset needs several ticks over it
QUIET_PERCENTILE, IDLE_MARGIN_DB = 1.0, 10.0  # a machine that is so much quieter than its quietest ticks is off


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds, what they rest on and what they promise. Rates are false events a week, after the rule."""

    method: MethodName
    parameters: Mapping[str, float]
    threshold: float
    file_threshold: float
    tick_threshold: float | None  # None: the segments'
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
    statement: str

    def manifest_part(self) -> dict[str, Any]:
        """What the manifest says of it; `clear_ratio` is part of its rule."""
        part = {key: value for key, value in vars(self).items() if key != "clear_ratio" and value is not None}
        return {**part, "parameters": dict(self.parameters), "hours": round(self.hours, 4)}


def calibrate(held_out: HeldOut, *, rule: Rule, segment_ticks: int, tick_s: float, method: Method | None = None) -> Calibration:
    """Set both thresholds on what held-out normal sound gave; the same scores always give the same result.

    `rule` is what will judge the scores, its `clear_ratio` aside; `tick_s` is the length of a tick in seconds.
    """
    method = method or Method()
    if len(held_out.segment_scores) < 2:
        raise ConfigError(f"a threshold needs at least 2 segment scores, got {len(held_out.segment_scores)}")
    sequences = held_out.sequences or (held_out.segment_scores,)
    evidence = Evidence(sequences=sequences, rule=rule, segment_ticks=segment_ticks, tick_s=tick_s)
    found, notes = _threshold(evidence, method)
    threshold, floor_notes = _positive(found, evidence.scores)
    file_threshold = max(threshold, _file_threshold(held_out.file_scores, method, threshold))
    clear_ratio = clear_ratio_of(threshold, mean=float(evidence.scores.mean()))
    events = evidence.events(threshold, replace(rule, clear_ratio=clear_ratio))
    bound = evidence.bound_95_per_week(events)
    return Calibration(
        method=method.name,
        parameters=method.parameters,
        threshold=threshold,
        file_threshold=file_threshold,
        tick_threshold=_tick_threshold(held_out.tick_scores, threshold),
        idle_below_dbfs=_idle_below_dbfs(held_out.tick_levels_dbfs),
        clear_ratio=clear_ratio,
        n_segments=len(evidence.scores),
        n_blocks=len(evidence.block_peaks),
        n_recordings=len(sequences),
        hours=held_out.hours,
        events=events,
        promised_per_week=method.promised_per_week,
        supported_per_week=evidence.supported_per_week,
        bound_95_per_week=bound,
        statement=statement(
            promised=method.promised_per_week,
            events=events,
            bound=bound,
            hours=held_out.hours,
            n_blocks=len(evidence.block_peaks),
            notes=notes + floor_notes,
        ),
    )


def clear_ratio_of(threshold: float, *, mean: float) -> float:
    """Half way between normal sound's mean and the threshold where that is above the default (docs/decisions/0004)."""
    half_way = (mean + threshold) / 2 / threshold
    return max(Rule().clear_ratio, min(round(half_way, 4), 0.9999))


def _threshold(evidence: Evidence, method: Method) -> tuple[float, tuple[str, ...]]:
    """A method's threshold for segments, and what there is to say about it."""
    if method.name == "mean+k*sigma":
        return mean_sigma_threshold(evidence.scores, k=method.k), ()
    if method.name == "percentile":
        return percentile_threshold(evidence.scores, percentile=method.percentile), ()
    if method.name == "gamma":
        found = gamma_quantile(evidence.scores, false_alarm=method.false_alarm)
        return _or_fallback(found, evidence.scores, "a gamma distribution cannot be fitted to these scores")
    if method.name == "conformal":
        return _conformal(evidence.block_peaks, method.false_alarm)
    tail = fit_tail(*evidence.tail)
    found = None if tail is None else tail.threshold(min(0.5, method.events_per_week / evidence.blocks_per_week))
    beyond, notes = _or_fallback(found, evidence.scores, "there are too few peaks to extrapolate from")
    if method.name == "pot":
        return beyond, notes
    within, more = _conformal(evidence.block_peaks, method.false_alarm)
    return max(beyond, within), notes + more


def _conformal(peaks: F64, false_alarm: float) -> tuple[float, tuple[str, ...]]:
    """Just above the conformal threshold over blocks (a ratio of 1 is over), or above the largest where they are few."""
    needs = conformal_needs(false_alarm)
    if len(peaks) >= needs:
        return math.nextafter(conformal_threshold(peaks, false_alarm=false_alarm), math.inf), ()
    note = f"a chance of {false_alarm:.2g} a block needs {needs} blocks, so the largest score of the {len(peaks)} counts"
    return math.nextafter(float(peaks.max()), math.inf), (note,)


def _or_fallback(found: float | None, scores: F64, why: str) -> tuple[float, tuple[str, ...]]:
    if found is not None and math.isfinite(found):
        return found, ()
    note = f"{why}, so mean + {FALLBACK_SIGMA:g} sigma is used"
    return mean_sigma_threshold(scores, k=FALLBACK_SIGMA), (note,)


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


def _positive(threshold: float, scores: F64) -> tuple[float, tuple[str, ...]]:
    """A threshold above 0 and above what ordinary normal segments score."""
    floor = max(SMALLEST, MIN_MARGIN * float(np.median(scores)))
    if threshold >= floor:
        return threshold, ()
    return floor, ("normal scores leave no room, so the threshold is 0.1 % above their median",)


def _file_threshold(scores: F64, method: Method, threshold: float) -> float:
    """The same method over whole files' scores (m,), each of them a block; with few files the segments' threshold."""
    if len(scores) < MIN_FILES:
        return threshold
    if method.name == "mean+k*sigma":
        return mean_sigma_threshold(scores, k=method.k)
    if method.name == "percentile":
        return percentile_threshold(scores, percentile=method.percentile)
    if method.name == "gamma":
        return gamma_quantile(scores, false_alarm=method.false_alarm) or threshold
    return _conformal(scores, method.false_alarm)[0]
