"""The ticks of lone disturbances, found by their segments' scores, and sound without them."""

from collections.abc import Iterable, Sequence

import numpy as np

from monitor.core.decision import Rule
from monitor.core.lone import lone, runs, usual_limit
from monitor.core.retrace import Piece, Trace
from monitor.core.scorer import TickScore

ECHO_TICKS = 4  # that a slammed door may be heard in
RARE = 5  # times; what is heard more often is the machine's


def disturbed(heard: Iterable[tuple[Sequence[Piece], Trace]], rule: Rule, *, segment_ticks: int) -> list[Piece]:
    """The ticks of pieces, each lot with its scores, that make segments exceed what is usual, where they are alone with that.

    They may be a few more than the rule ignores, as a slammed door echoes, unless that happens again and again. Pieces that
    follow each other, one the last and the other the first of its lot, are heard as one: what goes on is not alone.
    """
    heard = list(heard)
    limit = usual_limit(np.concatenate([trace.scores for _, trace in heard]), rule)
    found: list[Piece] = []
    raising: list[Piece] = []
    for piece, ticks in _joined([pair for pieces, trace in heard for pair in zip(pieces, trace.ticks, strict=True)]):
        full = [(at, tick.score) for at, tick in enumerate(ticks) if tick.n_ticks == segment_ticks and tick.score is not None]
        over = np.array([score > limit for _, score in full])
        for run in lone(over, rule, longest=segment_ticks - 1 + ECHO_TICKS):
            ends = [at for at, _ in full[run]]  # from the first disturbed tick on, to the last that still knows the last of them
            first = ends[0] if run.start > 0 else 0
            last = ends[-1] - segment_ticks + 1 if run.stop < len(full) else len(piece) - 1
            part = piece[min(first, last) : max(first, last) + 1]
            (found if len(ends) < rule.raise_k else raising).append(part)
    return [*found, *raising] if len(raising) <= RARE else found


def _joined(pieces: Iterable[tuple[Piece, Sequence[TickScore]]]) -> list[tuple[Piece, Sequence[TickScore]]]:
    whole: list[tuple[Piece, Sequence[TickScore]]] = []
    for piece, ticks in pieces:
        if whole and whole[-1][0][-1].stop == piece[0].start:
            before, scored = whole.pop()
            piece, ticks = [*before, *piece], [*scored, *ticks]
        whole.append((piece, ticks))
    return whole


def without(pieces: Iterable[Piece], left_out: Sequence[Piece], *, segment_ticks: int) -> list[Piece]:
    """Pieces, whole where nothing of them is left out, else what is left of them and long enough for a segment."""
    ids = {id(tick) for part in left_out for tick in part}
    kept: list[Piece] = []
    for piece in pieces:
        stays = np.array([id(tick) not in ids for tick in piece])
        parts = [piece[run] for run in runs(stays)]
        kept += [piece] if stays.all() else [part for part in parts if len(part) >= segment_ticks]
    return kept
