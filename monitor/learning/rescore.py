"""Score stored ticks again, in pieces, as if they were a new stream."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32, F64
from monitor.explain.profile import SegmentProfile
from monitor.learning.methods import blocks
from monitor.learning.thresholds import HeldOut
from monitor.scoring.features import TickFrames
from monitor.scoring.scorer import Scorer, TickScore

TickRun = Sequence[TickFrames]  # consecutive ticks of one stream; `fresh` marks the first tick after a gap


@dataclass(frozen=True)
class ProfiledTick(TickFrames):
    """A tick with the profile of the segment that it completes, for sound that is not stored as samples."""

    profile: SegmentProfile


@dataclass(frozen=True)
class RescoreResult:
    """The result of rescoring pieces.

    For each full segment, or for the longest segment of a piece shorter than one: the score, the detector's sums (k,) and the
    mean frame (n_bands,), dB. `sequences` are the scores by piece, and `ticks` has an entry for every tick.
    """

    scores: F64
    sums: F64
    frames: F64
    sequences: tuple[F64, ...]
    file_scores: F64
    ticks: tuple[tuple[TickScore, ...], ...]
    frequent: F32  # (m, n_bands), dB, to which the fast path is fitted


def rescore(scorer: Scorer, pieces: Iterable[TickRun]) -> RescoreResult:
    """Score each piece as a separate stream."""
    parts = [_piece(scorer, piece) for piece in pieces]
    segments = [one for part in parts for one in part.segments]
    return RescoreResult(
        scores=np.array([score for score, _, _ in segments]),
        sums=np.array([sums for _, sums, _ in segments]),
        frames=np.array([frame for _, _, frame in segments]),
        sequences=tuple(np.array([score for score, _, _ in part.segments]) for part in parts if part.segments),
        file_scores=np.array([part.file_score for part in parts if part.file_score is not None]),
        ticks=tuple(part.ticks for part in parts),
        frequent=np.array([row for part in parts for row in part.frequent], np.float32),
    )


def held_out(
    results: Sequence[RescoreResult], *, segment_ticks: int, tick_s: float, n_recordings: int, n_learned: int, drift: float = 0.0
) -> HeldOut:
    """Combine results, in chronological order, into the held-out scores from which thresholds are computed."""
    valid = [tick for result in results for piece in result.ticks for tick in piece if tick.tick_score is not None]
    sequences = tuple(sequence for result in results for sequence in result.sequences)
    return HeldOut(
        sequences=sequences,
        unit_scores=np.concatenate((np.empty(0), *(sequence[::segment_ticks] for sequence in sequences))),
        file_scores=np.concatenate([result.file_scores for result in results]),
        hours=len(valid) * tick_s / 3600,
        n_recordings=n_recordings,
        n_learned=n_learned,
        drift=drift,
        tick_scores=np.array([tick.tick_score for tick in valid], np.float64),
        tick_levels_dbfs=np.array([tick.rms_dbfs for tick in valid], np.float64),
        frequent=np.concatenate([result.frequent for result in results]),
    )


def independent_sums(scorer: Scorer, pieces: Iterable[TickRun]) -> F64:
    """The detector's sums (n, k) over segments that share no sound."""
    found = []
    for piece in pieces:
        part, n_new = _piece(scorer, piece), scorer.spec.segment_ticks
        at = 0
        for tick in part.ticks:
            n_new += tick.reason is None
            if tick.score is None or tick.n_ticks < scorer.spec.segment_ticks:
                continue
            if n_new >= scorer.spec.segment_ticks:
                found.append(part.segments[at][1])
                n_new = 0
            at += 1
        if len(part.segments) and not at:
            found.append(part.segments[0][1])
    return np.array(found)


def cut(stream: TickRun, *, length: int) -> list[TickRun]:
    """Cut a stream into blocks of at least `length` consecutive ticks, as equal in length as possible."""
    return [stream[block] for block in blocks(len(stream), length=length)]


def mean_frame_of(piece: TickRun) -> F64 | None:
    """The mean frame (n_bands,), dB; None if no tick can be scored."""
    parts = [tick.frames[: tick.n_frames] for tick in piece if tick.frames is not None]
    return np.concatenate(parts).mean(axis=0, dtype=np.float64) if parts else None


def profiles(pieces: Iterable[TickRun]) -> list[SegmentProfile]:
    """The profiles of segments that lie entirely within one of the pieces."""
    return [
        tick.profile
        for piece in pieces
        for tick in piece
        if isinstance(tick, ProfiledTick) and tick.profile.start >= piece[0].start
    ]


@dataclass(frozen=True)
class _Part:
    segments: list[tuple[float, F64, F64]]
    ticks: tuple[TickScore, ...]
    file_score: float | None
    frequent: list[F32]


def _piece(scorer: Scorer, piece: TickRun) -> _Part:
    scorer.reset()
    full: list[tuple[float, F64, F64]] = []
    short: list[tuple[float, F64, F64]] = []
    ticks: list[TickScore] = []
    frequent: list[F32] = []
    for frames in piece:
        tick = scorer.score_tick(frames)
        ticks.append(tick.computed())
        if tick.reason is None and (row := scorer.frequent_frame()) is not None:
            frequent.append(row)
        if tick.score is not None:
            is_full = tick.n_ticks == scorer.spec.segment_ticks
            (full if is_full else short).append((tick.score, scorer.segment_sums(), scorer.mean_frame()))
    return _Part(full or short[-1:], tuple(ticks), scorer.file_score(), frequent)
