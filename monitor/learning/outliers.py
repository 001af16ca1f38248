"""Isolated outliers in normal sound: a slammed door, a click, a dropout. Both the decision rule and learning ignore them."""

from collections.abc import Iterable, Sequence

import numpy as np

from monitor.arrays import F64, Bool, runs
from monitor.events.decision import Rule
from monitor.learning.rescore import RescoreResult, TickRun
from monitor.scoring.scorer import TickScore

MAX_SHARE = 0.1  # maximum fraction of outliers among segments, but at least as many segments as one event affects
SIGMAS = 6.0  # minimum distance of an outlier from the rest
ECHO_TICKS = 4  # allowance for the echo of a slammed door
MAX_RAISING = 5  # outliers that would raise an event; if there are more, they belong to the machine
_Scored = tuple[int, TickRun, Sequence[TickScore]]  # number of the recording, the piece, its scores


def isolated_runs(over: Bool, rule: Rule, *, max_length: int) -> list[slice]:
    """Runs of at most `max_length` segments over a threshold, (n,) in chronological order, with no others nearby.

    If there are too few segments for the rule, there are no runs, because the sound before and after is unknown.
    """
    if len(over) < rule.raise_n:
        return []
    near = [(run, over[max(0, run.start - rule.raise_n) : run.stop + rule.raise_n]) for run in runs(over)]
    return [run for run, around in near if around.sum() <= max_length]


def outlier_limit(scores: F64, rule: Rule) -> float:
    """The upper limit of scores (n,): mean + 6 sigma of the lower nine tenths, extended repeatedly to all scores below it."""
    share = min(0.5, max(MAX_SHARE, rule.raise_k / len(scores)))
    limit, n_below = float(np.quantile(scores, 1.0 - share)), 0
    while (n := int((scores <= limit).sum())) > n_below:
        below, n_below = scores[scores <= limit], n
        limit = max(limit, float(below.mean() + SIGMAS * below.std()))
    return limit


def outlier_ticks(
    recordings: Sequence[Sequence[TickRun]],
    scored: Iterable[tuple[Sequence[TickRun], RescoreResult]],
    rule: Rule,
    *,
    segment_ticks: int,
) -> list[tuple[int, TickRun]]:
    """Runs of ticks that raise the scores of isolated segments above the limit.

    `scored` holds pieces and their scores. Each run is returned with the number of its recording, from 0. Because a slammed
    door echoes, a run may be a few ticks longer than the rule ignores, unless that happens repeatedly. Adjoining pieces of a
    recording are treated as one, so that outliers on both sides of a cut do not count as isolated.
    """
    results = list(scored)
    number_of = {id(tick): number for number, pieces in enumerate(recordings) for piece in pieces for tick in piece}
    pieces_scored = [
        (number_of[id(piece[0])], piece, ticks)
        for pieces, result in results
        for piece, ticks in zip(pieces, result.ticks, strict=True)
    ]
    limit = outlier_limit(np.concatenate([result.scores for _, result in results]), rule)
    found: list[tuple[int, TickRun]] = []
    raising: list[tuple[int, TickRun]] = []
    for number, piece, ticks in _joined(pieces_scored):
        full = [(at, tick.score) for at, tick in enumerate(ticks) if tick.n_ticks == segment_ticks and tick.score is not None]
        over = np.array([score > limit for _, score in full])
        for run in isolated_runs(over, rule, max_length=segment_ticks - 1 + ECHO_TICKS):
            # From the first outlying tick to the last segment that contains the last outlying one.
            ends = [at for at, _ in full[run]]
            first = ends[0] if run.start > 0 else 0
            last = ends[-1] - segment_ticks + 1 if run.stop < len(full) else len(piece) - 1
            part = piece[min(first, last) : max(first, last) + 1]
            (found if len(ends) < rule.raise_k else raising).append((number, part))
    return [*found, *raising] if len(raising) <= MAX_RAISING else found


def _joined(pieces: Iterable[_Scored]) -> list[_Scored]:
    whole: list[_Scored] = []
    for number, piece, ticks in pieces:
        if whole and (number, piece[0].start) == (whole[-1][0], whole[-1][1][-1].stop):
            _, before, scored = whole.pop()
            piece, ticks = [*before, *piece], [*scored, *ticks]
        whole.append((number, piece, ticks))
    return whole


def drop_ticks(pieces: Iterable[TickRun], left_out: Sequence[TickRun], *, segment_ticks: int) -> list[TickRun]:
    """The pieces without the ticks to be left out. Remainders shorter than a segment are dropped."""
    ids = {id(tick) for part in left_out for tick in part}
    kept: list[TickRun] = []
    for piece in pieces:
        stays = np.array([id(tick) not in ids for tick in piece])
        parts = [piece[run] for run in runs(stays)]
        kept += [piece] if stays.all() else [part for part in parts if len(part) >= segment_ticks]
    return kept
