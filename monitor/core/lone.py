"""Lone disturbances in normal sound: a slammed door, a click, a stumble of the microphone. The rule ignores them, too."""

import numpy as np

from monitor.core.arrays import F64, Bool
from monitor.core.decision import Rule

MOST = 0.1  # of the segments, but at least as many as one disturbance makes, may be disturbed;
SIGMAS = 6.0  # not what lies so near to the rest


def runs(mask: Bool) -> list[slice]:
    """Where a mask (n,) is true in a row."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return [slice(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def lone(over: Bool, rule: Rule, *, longest: int) -> list[slice]:
    """Runs of at most so many segments over a threshold, (n,) in order of time, with no more of them near than that.

    Where there are too few segments for the rule there are none: nobody knows what came before and after.
    """
    if len(over) < rule.raise_n:
        return []
    near = [(run, over[max(0, run.start - rule.raise_n) : run.stop + rule.raise_n]) for run in runs(over)]
    return [run for run, around in near if around.sum() <= longest]


def usual_limit(scores: F64, rule: Rule) -> float:
    """What scores (n,) would be below without disturbances: mean + 6 sigma of the lower nine tenths and of what is under that."""
    share = min(0.5, max(MOST, rule.raise_k / len(scores)))
    limit, n_below = float(np.quantile(scores, 1.0 - share)), 0
    while (n := int((scores <= limit).sum())) > n_below:
        below, n_below = scores[scores <= limit], n
        limit = max(limit, float(below.mean() + SIGMAS * below.std()))
    return limit
