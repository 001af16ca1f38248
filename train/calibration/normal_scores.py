"""Measure and score normal sound on the exported model, through the device's own pipeline."""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from tqdm import tqdm

from monitor.errors import SourceError
from monitor.explain.profile import Profiler, SegmentProfile
from monitor.explain.reference import Reference, fit_reference
from monitor.learning.measured import RecordingSums, held_out_scores
from monitor.learning.thresholds import HeldOut
from monitor.scoring.features import FeatureExtractor
from monitor.scoring.scorer import Scorer, ScorerSpec, TickScore
from train.datasets import Piece


def measure_pieces(scorer: Scorer, pieces: Sequence[Piece]) -> list[RecordingSums]:
    """Measure every piece, tick by tick; SourceError names one without scorable sound."""
    return [_measure(scorer, piece) for piece in tqdm(pieces, desc="measure", unit="file", disable=None, leave=False)]


def score_pieces(scorer: Scorer, pieces: Sequence[Piece], *, n_learned: int | None = None) -> HeldOut:
    """Score normal sound that the scorer's detector was not fitted to; it was fitted to `n_learned` recordings, or as many."""
    measured = measure_pieces(scorer, pieces)
    return held_out_scores(
        [(scorer.detector, measured)],
        segment_ticks=scorer.spec.segment_ticks,
        n_recordings=len(measured),
        n_learned=n_learned or len(measured),
    )


def expected_of(pieces: Sequence[Piece], spec: ScorerSpec) -> Reference:
    """The reference of normal sound, from the profiles of its segments; a recording shorter than one has one profile."""
    profiles: list[SegmentProfile] = []
    extractor = FeatureExtractor(spec.front_end, tick_frames=spec.tick_frames)
    for piece in tqdm(pieces, desc="profiles", unit="file", disable=None, leave=False):
        extractor.reset()
        profiler = Profiler(spec.front_end, segment_ticks=spec.segment_ticks)
        blocks = piece.recording.blocks(start_s=piece.start_s, stop_s=piece.stop_s)
        for block in blocks:
            profiles += chain.from_iterable(map(profiler.push, extractor.push(block)))
        profiles += chain.from_iterable(map(profiler.push, extractor.flush()))
        profiles += profiler.end()
    return fit_reference(profiles)


def stream_ticks(scorer: Scorer, piece: Piece) -> Iterator[TickScore]:
    """The ticks of a piece as a separate stream. The scorer's state after each is that of the tick."""
    scorer.reset()
    for block in piece.recording.blocks(start_s=piece.start_s, stop_s=piece.stop_s):
        yield from map(scorer.score_tick, scorer.extract(block))
    yield from map(scorer.score_tick, scorer.extract_last())


def _measure(scorer: Scorer, piece: Piece) -> RecordingSums:
    front_end = scorer.spec.front_end
    ticks, sums, frequent = [], [], []
    for tick in stream_ticks(scorer, piece):
        if tick.reason is None and tick.rms_dbfs is not None:
            ticks.append(tick)
            sums.append(scorer.tick_sums())
            frame = scorer.frequent_frame()
            frequent += [] if frame is None else [frame]
    if not ticks:
        raise SourceError(f"{piece.recording.path}: contains no sound that can be scored")
    return RecordingSums(
        sums=np.array(sums),
        levels_dbfs=np.array([tick.rms_dbfs for tick in ticks], np.float64),
        starts=np.array([tick.start for tick in ticks], np.int64),
        step_samples=scorer.spec.tick_frames * front_end.hop_length,
        hours=scorer.scored_frames * front_end.hop_length / front_end.sample_rate_hz / 3600,
        frequent=np.array(frequent, np.float32).reshape(len(frequent), front_end.n_bands),
    )
