"""Lone disturbances in normal sound: a slammed door, a click, a stumble of the microphone. The rule ignores them, too."""

from collections.abc import Iterable, Sequence

import numpy as np

from monitor.core.arrays import F64, Bool
from monitor.core.decision import Rule
from monitor.core.retrace import Piece, Trace

MOST = 0.1  # of the segments, but at least as many as one disturbance makes, may be disturbed;
SIGMAS = 6.0  # not what lies so near to the rest
RARE = 5  # times; what is heard more often is the machine's


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


def disturbed(heard: Iterable[tuple[Sequence[Piece], Trace]], rule: Rule, *, segment_ticks: int) -> list[Piece]:
    """The ticks of pieces, each lot with its scores, that make segments exceed what is usual, where they are alone with that.

    They may be a few more than the rule ignores, as a slammed door echoes, unless that happens again and again.
    """
    heard = list(heard)
    limit = usual_limit(np.concatenate([trace.scores for _, trace in heard]), rule)
    found: list[Piece] = []
    raising: list[Piece] = []
    for piece, ticks in [pair for pieces, trace in heard for pair in zip(pieces, trace.ticks, strict=True)]:
        full = [(at, tick.score) for at, tick in enumerate(ticks) if tick.n_ticks == segment_ticks and tick.score is not None]
        for run in lone(np.array([score > limit for _, score in full]), rule, longest=rule.raise_n):
            ends = [at for at, _ in full[run]]  # from the first disturbed tick on, to the last that still knows the last of them
            first = ends[0] if run.start > 0 else 0
            last = ends[-1] - segment_ticks + 1 if run.stop < len(full) else len(piece) - 1
            part = piece[min(first, last) : max(first, last) + 1]
            (found if len(ends) < rule.raise_k else raising).append(part)
    return [*found, *raising] if len(raising) <= RARE else found


def without(pieces: Iterable[Piece], left_out: Sequence[Piece], *, segment_ticks: int) -> list[Piece]:
    """Pieces, or what is left of them and long enough for a segment."""
    ids = {id(tick) for part in left_out for tick in part}
    kept = [piece[run] for piece in pieces for run in runs(np.array([id(tick) not in ids for tick in piece]))]
    return [piece for piece in kept if len(piece) >= segment_ticks]
