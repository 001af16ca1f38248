"""Calibrate: score held-out normal sound on the exported model, through the device's own pipeline."""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from tqdm import tqdm

from monitor.core.arrays import F32, F64
from monitor.core.ear import Ear
from monitor.core.errors import SourceError
from monitor.core.expected import Expected, fit_expected
from monitor.core.portrait import Portrait, Portrayer
from monitor.core.scorer import Scorer, ScorerSpec, TickScore
from monitor.core.thresholds import HeldOut
from train.datasets import Piece

MIN_FILES = 10  # below, their whole-file scores say too little


def score_pieces(scorer: Scorer, pieces: Sequence[Piece]) -> HeldOut:
    """Score every full segment of every piece; of a piece shorter than a segment, its longest one."""
    segments: list[list[tuple[float, F64]]] = []
    files: list[float] = []
    ticks: list[TickScore] = []
    frequent: list[F32] = []
    seconds = 0.0
    for piece in tqdm(pieces, desc="calibration", unit="file", disable=None, leave=False):
        scored = _segments(scorer, piece, ticks, frequent)
        full = [(score, frame) for score, n_ticks, frame in scored if n_ticks == scorer.spec.segment_ticks]
        segments.append(full or [(score, frame) for score, _, frame in scored[-1:]])
        score = scorer.file_score()
        files += [] if score is None else [score]
        front_end = scorer.spec.front_end
        seconds += scorer.scored_frames * front_end.hop_length / front_end.sample_rate_hz
    if not any(segments):
        raise SourceError("held-out recordings must be at least half a segment long, got none that is")
    sequences = tuple(np.array([score for score, _ in scored]) for scored in segments if scored)
    frames = np.array([frame for scored in segments for _, frame in scored])
    return HeldOut(
        segment_scores=np.concatenate(sequences),
        file_scores=np.array(files),
        mean_frames=frames,
        hours=seconds / 3600,
        sequences=sequences,
        tick_scores=np.array([tick.tick_score for tick in ticks], np.float64),
        tick_levels_dbfs=np.array([tick.rms_dbfs for tick in ticks], np.float64),
        frequent=np.array(frequent, np.float32).reshape(len(frequent), -1),
    )


def expected_of(pieces: Sequence[Piece], spec: ScorerSpec) -> Expected:
    """What is expected of a segment, by normal sound; recordings shorter than half a segment say nothing."""
    portraits: list[Portrait] = []
    ear = Ear(spec.front_end, tick_frames=spec.tick_frames)
    for piece in tqdm(pieces, desc="portraits", unit="file", disable=None, leave=False):
        ear.reset()
        portrayer = Portrayer(spec.front_end, segment_ticks=spec.segment_ticks)
        blocks = piece.recording.blocks(start_s=piece.start_s, stop_s=piece.stop_s)
        heard = chain(chain.from_iterable(map(ear.push, blocks)), ear.flush())
        portraits += chain.from_iterable(map(portrayer.hear, heard))
        portraits += portrayer.end()
    return fit_expected(portraits)


def _segments(scorer: Scorer, piece: Piece, ticks: list[TickScore], frequent: list[F32]) -> list[tuple[float, int, F64]]:
    """Score, number of ticks and mean frame of each segment of a piece; its valid ticks and frequent frames are added."""
    found = []
    for tick in stream_ticks(scorer, piece):
        ticks += [] if tick.tick_score is None else [tick]
        frame = None if tick.reason is not None else scorer.frequent_frame()
        frequent += [] if frame is None else [frame]
        if tick.score is not None:
            found.append((tick.score, tick.n_ticks, scorer.mean_frame()))
    return found


def stream_ticks(scorer: Scorer, piece: Piece) -> Iterator[TickScore]:
    """The ticks of a piece as a stream of its own; after each, the scorer is where that tick left it."""
    scorer.reset()
    for block in piece.recording.blocks(start_s=piece.start_s, stop_s=piece.stop_s):
        yield from scorer.push(block)
    yield from scorer.flush()
