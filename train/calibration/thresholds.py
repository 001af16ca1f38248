"""The methods: from the scores of normal sound to thresholds."""

import math
from dataclasses import replace

import numpy as np

from monitor.arrays import F64
from monitor.events.decision import Rule
from monitor.learning.false_alarms import NormalScores
from monitor.learning.methods import conformal_needs, conformal_threshold, mean_sigma_threshold, percentile_threshold
from monitor.learning.outliers import isolated_runs, outlier_limit
from monitor.learning.predictive import Prior
from monitor.learning.report_text import count
from monitor.learning.thresholds import (
    FUSED_PRIOR,
    MIN_FILES,
    Calibration,
    HeldOut,
    Thresholds,
    make_calibration,
    predicted_thresholds,
)
from monitor.scoring.fast_path import Fast
from train.calibration.tails import fit_tail, gamma_quantile
from train.recipes.method import Method

FALLBACK_SIGMA = 6.0
Found = tuple[float, tuple[str, ...]]  # a threshold, and notes on it


def calibrate(
    held_out: HeldOut,
    *,
    rule: Rule,
    segment_ticks: int,
    tick_s: float,
    method: Method | None = None,
    prior: Prior = FUSED_PRIOR,
    fast: Fast | None = None,
) -> Calibration:
    """Set all thresholds on the scores of normal sound; the same scores always give the same result.

    `rule` is the rule that will be applied to the scores; its `clear_ratio` is not used. `tick_s` is the length of a tick in
    seconds. `default` sets a warning and an alarm level, with the score's prior; the other methods set one level.
    """
    chosen = method or Method()

    def thresholds_of(normal: NormalScores) -> Thresholds:
        if chosen.name == "default":
            calm, notes = _without_isolated(held_out, normal)
            found = predicted_thresholds(calm, prior=prior)
            return replace(found, notes=(*found.notes, *notes))
        segment, notes = _threshold(normal, chosen)
        return Thresholds(segment=segment, file=_file_threshold(held_out.file_scores, chosen, segment), notes=notes)

    return make_calibration(
        held_out,
        rule=rule,
        segment_ticks=segment_ticks,
        tick_s=tick_s,
        method=chosen.name,
        parameters=chosen.parameters,
        promised_per_week=chosen.promised_per_week,
        thresholds_of=thresholds_of,
        fast=fast,
    )


def _without_isolated(held_out: HeldOut, normal: NormalScores) -> tuple[HeldOut, tuple[str, ...]]:
    """Drop isolated outliers from the scores of segments that share no sound; a single one would raise the threshold too far."""
    limit, rule = outlier_limit(normal.scores, normal.rule), normal.rule
    bangs = [isolated_runs(scores > limit, rule, max_length=rule.raise_k - 1) for scores in normal.sequences]
    if not any(bangs):
        return held_out, ()
    kept = [np.delete(one, np.r_[tuple(runs)]) if runs else one for one, runs in zip(normal.sequences, bangs, strict=True)]
    units = np.concatenate([one[:: normal.segment_ticks] for one in kept])
    if len(units) < 2:  # too little would be left to estimate a spread from
        return held_out, ()
    n = sum(map(len, bangs))
    note = f"{count(n, 'isolated outlier')}, too short to raise an event, {'was' if n == 1 else 'were'} left out"
    return replace(held_out, unit_scores=units), (note,)


def _threshold(normal: NormalScores, method: Method) -> Found:
    """The threshold for segments of a method with one level, and notes."""
    if method.name == "mean+k*sigma":
        return mean_sigma_threshold(normal.scores, k=method.k), ()
    if method.name == "percentile":
        return percentile_threshold(normal.scores, percentile=method.percentile), ()
    if method.name == "gamma":
        found = gamma_quantile(normal.scores, false_alarm=method.false_alarm)
        return _or_fallback(found, normal.scores, "a gamma distribution cannot be fitted to these scores")
    if method.name == "conformal":
        return conformal_or_largest(normal.block_peaks, method.false_alarm)
    tail = fit_tail(*normal.tail)
    found = None if tail is None else tail.threshold(min(0.5, method.events_per_week / normal.blocks_per_week))
    return _or_fallback(found, normal.scores, "there are too few peaks to extrapolate from")


def conformal_or_largest(peaks: F64, false_alarm: float) -> Found:
    """Just above the conformal threshold over blocks (a ratio of 1 is above), or above the largest where there are too few."""
    needs = conformal_needs(false_alarm)
    if len(peaks) >= needs:
        return math.nextafter(conformal_threshold(peaks, false_alarm=false_alarm), math.inf), ()
    note = f"a chance of {false_alarm:.2g} per block needs {needs} blocks, so the largest of {len(peaks)} scores is used"
    return math.nextafter(float(peaks.max()), math.inf), (note,)


def _or_fallback(found: float | None, scores: F64, why: str) -> Found:
    if found is not None and math.isfinite(found):
        return found, ()
    note = f"{why}, so mean + {FALLBACK_SIGMA:g} sigma is used"
    return mean_sigma_threshold(scores, k=FALLBACK_SIGMA), (note,)


def _file_threshold(scores: F64, method: Method, threshold: float) -> float:
    """The same method applied to scores (m,) of whole files, each a block; with few files, the segments' threshold."""
    if len(scores) < MIN_FILES:
        return threshold
    if method.name == "mean+k*sigma":
        return mean_sigma_threshold(scores, k=method.k)
    if method.name == "percentile":
        return percentile_threshold(scores, percentile=method.percentile)
    if method.name == "gamma":
        return gamma_quantile(scores, false_alarm=method.false_alarm) or threshold
    return conformal_or_largest(scores, method.false_alarm)[0]
