"""The methods: from held-out normal scores to both thresholds."""

import math
from dataclasses import replace

import numpy as np

from monitor.core.arrays import F64
from monitor.core.calibration import mean_sigma_threshold, percentile_threshold
from monitor.core.decision import Rule
from monitor.core.evidence import Evidence
from monitor.core.fast import Fast
from monitor.core.lone import lone, usual_limit
from monitor.core.statement import count
from monitor.core.thresholds import Calibration, Found, HeldOut, conformal_or_largest, settle
from train.calibrate import MIN_FILES
from train.calibration.method import Method
from train.calibration.tails import fit_tail, gamma_quantile

FALLBACK_SIGMA = 6.0


def calibrate(
    held_out: HeldOut,
    *,
    rule: Rule,
    segment_ticks: int,
    tick_s: float,
    method: Method | None = None,
    fast: Fast | None = None,
) -> Calibration:
    """Set both thresholds on what held-out normal sound gave; the same scores always give the same result.

    `rule` is what will judge the scores, its `clear_ratio` aside; `tick_s` is the length of a tick in seconds.
    """
    chosen = method or Method()
    return settle(
        held_out,
        rule=rule,
        segment_ticks=segment_ticks,
        tick_s=tick_s,
        method=chosen.name,
        parameters=chosen.parameters,
        promised_per_week=chosen.promised_per_week,
        threshold_of=lambda evidence: _threshold(evidence, chosen),
        file_threshold_of=lambda threshold: _file_threshold(held_out.file_scores, chosen, threshold),
        fast=fast,
    )


def _threshold(evidence: Evidence, method: Method) -> Found:
    """A method's threshold for segments, and what there is to say about it."""
    if method.name == "mean+k*sigma":
        return mean_sigma_threshold(evidence.scores, k=method.k), ()
    if method.name == "percentile":
        return percentile_threshold(evidence.scores, percentile=method.percentile), ()
    if method.name == "gamma":
        found = gamma_quantile(evidence.scores, false_alarm=method.false_alarm)
        return _or_fallback(found, evidence.scores, "a gamma distribution cannot be fitted to these scores")
    if method.name == "conformal":
        return conformal_or_largest(evidence.block_peaks, method.false_alarm)
    calm, n_left_out = (evidence, 0) if method.name == "pot" else _without_lone(evidence)
    tail = fit_tail(*(evidence if evidence.shows_rule else calm).tail)  # of what the rule sees, bangs are no part anyway
    found = None if tail is None else tail.threshold(min(0.5, method.events_per_week / evidence.blocks_per_week))
    beyond, notes = _or_fallback(found, calm.scores, "there are too few peaks to extrapolate from")
    if method.name == "pot":
        return beyond, notes
    within, more = conformal_or_largest(calm.block_peaks, method.false_alarm)
    if n_left_out:
        more = (*more, f"{count(n_left_out, 'lone disturbance')}, too short for the rule, did not count for that")
    return max(beyond, within), notes + more


def _without_lone(evidence: Evidence) -> tuple[Evidence, int]:
    """A bang in the one block of many that decides would make the detector deaf; returns how many bangs there were, too."""
    limit, rule = usual_limit(evidence.scores, evidence.rule), evidence.rule
    found = [lone(scores > limit, rule, longest=rule.raise_k - 1) for scores in evidence.sequences]
    kept = [
        np.delete(scores, np.r_[tuple(bangs)]) if bangs else scores
        for scores, bangs in zip(evidence.sequences, found, strict=True)
    ]
    return replace(evidence, sequences=tuple(kept)), sum(map(len, found))


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
