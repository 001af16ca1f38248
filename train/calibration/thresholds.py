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
from train.calibration.method import Method
from train.calibration.tails import fit_tail, gamma_quantile

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

    `rule` is what will judge the scores, its `clear_ratio` aside; `tick_s` is the length of a tick in seconds. The named
    methods set one level, `default` those of warnings and alarms, with a prior that belongs to the score.
    """
    chosen = method or Method()

    def thresholds_of(evidence: NormalScores) -> Thresholds:
        if chosen.name == "default":
            calm, notes = _without_lone(held_out, evidence)
            found = predicted_thresholds(calm, prior=prior)
            return replace(found, notes=(*found.notes, *notes))
        segment, notes = _threshold(evidence, chosen)
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


def _without_lone(held_out: HeldOut, evidence: NormalScores) -> tuple[HeldOut, tuple[str, ...]]:
    """The segments that share no sound without lone disturbances, and a note: one bang would make the detector deaf."""
    limit, rule = outlier_limit(evidence.scores, evidence.rule), evidence.rule
    bangs = [isolated_runs(scores > limit, rule, longest=rule.raise_k - 1) for scores in evidence.sequences]
    if not any(bangs):
        return held_out, ()
    kept = [np.delete(one, np.r_[tuple(runs)]) if runs else one for one, runs in zip(evidence.sequences, bangs, strict=True)]
    note = f"{count(sum(map(len, bangs)), 'lone disturbance')}, too short for the rule, was left out"
    return replace(held_out, unit_scores=np.concatenate([one[:: evidence.segment_ticks] for one in kept])), (note,)


def _threshold(evidence: NormalScores, method: Method) -> Found:
    """The threshold for segments of a method with one level, and notes."""
    if method.name == "mean+k*sigma":
        return mean_sigma_threshold(evidence.scores, k=method.k), ()
    if method.name == "percentile":
        return percentile_threshold(evidence.scores, percentile=method.percentile), ()
    if method.name == "gamma":
        found = gamma_quantile(evidence.scores, false_alarm=method.false_alarm)
        return _or_fallback(found, evidence.scores, "a gamma distribution cannot be fitted to these scores")
    if method.name == "conformal":
        return conformal_or_largest(evidence.block_peaks, method.false_alarm)
    tail = fit_tail(*evidence.tail)
    found = None if tail is None else tail.threshold(min(0.5, method.events_per_week / evidence.blocks_per_week))
    return _or_fallback(found, evidence.scores, "there are too few peaks to extrapolate from")


def conformal_or_largest(peaks: F64, false_alarm: float) -> Found:
    """Just above the conformal threshold over blocks (a ratio of 1 is over), or above the largest where they are few."""
    needs = conformal_needs(false_alarm)
    if len(peaks) >= needs:
        return math.nextafter(conformal_threshold(peaks, false_alarm=false_alarm), math.inf), ()
    note = f"a chance of {false_alarm:.2g} a block needs {needs} blocks, so the largest score of the {len(peaks)} counts"
    return math.nextafter(float(peaks.max()), math.inf), (note,)


def _or_fallback(found: float | None, scores: F64, why: str) -> Found:
    if found is not None and math.isfinite(found):
        return found, ()
    note = f"{why}, so mean + {FALLBACK_SIGMA:g} sigma is used"
    return mean_sigma_threshold(scores, k=FALLBACK_SIGMA), (note,)


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
    return conformal_or_largest(scores, method.false_alarm)[0]
