"""Isolated outliers in normal sound: a slammed door, a click, a dropout. The decision rule ignores them, and so does learning."""

from collections.abc import Iterable, Sequence

import numpy as np

from monitor.arrays import F64, Bool, runs
from monitor.events.decision import Rule
from monitor.learning.rescore import RescoreResult, TickRun
from monitor.scoring.scorer import TickScore

MOST = 0.1  # of the segments, but at least as many as one disturbance makes, may be disturbed;
SIGMAS = 6.0  # not what lies so near to the rest
ECHO_TICKS = 4  # that a slammed door may be heard in
RARE = 5  # times; what is heard more often is the machine's
_Scored = tuple[int, TickRun, Sequence[TickScore]]  # of recording number so-and-so


def isolated_runs(over: Bool, rule: Rule, *, longest: int) -> list[slice]:
    """Runs of at most so many segments over a threshold, (n,) in order of time, with no more of them near than that.

    Where there are too few segments for the rule there are none: nobody knows what came before and after.
    """
    if len(over) < rule.raise_n:
        return []
    near = [(run, over[max(0, run.start - rule.raise_n) : run.stop + rule.raise_n]) for run in runs(over)]
    return [run for run, around in near if around.sum() <= longest]


def outlier_limit(scores: F64, rule: Rule) -> float:
    """What scores (n,) would be below without disturbances: mean + 6 sigma of the lower nine tenths and of what is under that."""
    share = min(0.5, max(MOST, rule.raise_k / len(scores)))
    limit, n_below = float(np.quantile(scores, 1.0 - share)), 0
    while (n := int((scores <= limit).sum())) > n_below:
        below, n_below = scores[scores <= limit], n
        limit = max(limit, float(below.mean() + SIGMAS * below.std()))
    return limit


def outlier_ticks(
    recordings: Sequence[Sequence[TickRun]],
    heard: Iterable[tuple[Sequence[TickRun], RescoreResult]],
    rule: Rule,
    *,
    segment_ticks: int,
) -> list[tuple[int, TickRun]]:
    """The ticks of pieces, each lot with its scores, that make segments exceed what is usual, where they are alone with that.

    Each with the number of the recording, from 0, that it was heard in. They may be a few more than the rule ignores, as a
    slammed door echoes, unless that happens again and again. Pieces that follow each other in a recording are heard as one,
    whichever lots they are in: what goes on is not alone.
    """
    heard = list(heard)
    number_of = {id(tick): number for number, pieces in enumerate(recordings) for piece in pieces for tick in piece}
    scored = [
        (number_of[id(piece[0])], piece, ticks)
        for pieces, trace in heard
        for piece, ticks in zip(pieces, trace.ticks, strict=True)
    ]
    limit = outlier_limit(np.concatenate([trace.scores for _, trace in heard]), rule)
    found: list[tuple[int, TickRun]] = []
    raising: list[tuple[int, TickRun]] = []
    for number, piece, ticks in _joined(scored):
        full = [(at, tick.score) for at, tick in enumerate(ticks) if tick.n_ticks == segment_ticks and tick.score is not None]
        over = np.array([score > limit for _, score in full])
        for run in isolated_runs(over, rule, longest=segment_ticks - 1 + ECHO_TICKS):
            ends = [at for at, _ in full[run]]  # from the first disturbed tick on, to the last that still knows the last of them
            first = ends[0] if run.start > 0 else 0
            last = ends[-1] - segment_ticks + 1 if run.stop < len(full) else len(piece) - 1
            part = piece[min(first, last) : max(first, last) + 1]
            (found if len(ends) < rule.raise_k else raising).append((number, part))
    return [*found, *raising] if len(raising) <= RARE else found


def _joined(pieces: Iterable[_Scored]) -> list[_Scored]:
    whole: list[_Scored] = []
    for number, piece, ticks in pieces:
        if whole and (number, piece[0].start) == (whole[-1][0], whole[-1][1][-1].stop):
            _, before, scored = whole.pop()
            piece, ticks = [*before, *piece], [*scored, *ticks]
        whole.append((number, piece, ticks))
    return whole


def drop_ticks(pieces: Iterable[TickRun], left_out: Sequence[TickRun], *, segment_ticks: int) -> list[TickRun]:
    """Pieces, whole where nothing of them is left out, else what is left of them and long enough for a segment."""
    ids = {id(tick) for part in left_out for tick in part}
    kept: list[TickRun] = []
    for piece in pieces:
        stays = np.array([id(tick) not in ids for tick in piece])
        parts = [piece[run] for run in runs(stays)]
        kept += [piece] if stays.all() else [part for part in parts if len(part) >= segment_ticks]
    return kept
