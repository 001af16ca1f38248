"""Measure and score normal sound on the exported model, through the device's own pipeline."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

import numpy as np

from monitor.errors import SourceError
from monitor.explain.profile import Profiler, SegmentProfile
from monitor.explain.reference import Reference, fit_reference
from monitor.learning.measured import RecordingSums, held_out_scores
from monitor.learning.thresholds import HeldOut
from monitor.scoring.features import FeatureExtractor
from monitor.scoring.scorer import Scorer, ScorerSpec, TickScore
from train.datasets import Piece, workers_for
from train.datasets.parallel import in_parallel

_CHUNK = 4  # pieces that a process takes at a time


def measure_pieces(make: Callable[[], Scorer], pieces: Sequence[Piece]) -> list[RecordingSums]:
    """Measure every piece, tick by tick, on all cores; SourceError names one without scorable sound. `make` can be pickled."""
    workers = workers_for(pieces)
    return list(in_parallel(_measure, pieces, workers=workers, bar="measure", chunk=_CHUNK, set_up=partial(_use, make)))


def score_pieces(make: Callable[[], Scorer], pieces: Sequence[Piece], *, n_learned: int | None = None) -> HeldOut:
    """Score normal sound that the detector was not fitted to; it was fitted to `n_learned` recordings, or as many."""
    measured = measure_pieces(make, pieces)
    scorer = make()
    return held_out_scores(
        [(scorer.detector, measured)],
        segment_ticks=scorer.spec.segment_ticks,
        n_recordings=len(measured),
        n_learned=n_learned or len(measured),
    )


def expected_of(pieces: Sequence[Piece], spec: ScorerSpec) -> Reference:
    """The reference of normal sound, from the profiles of its segments; a recording shorter than one has one profile."""
    work = partial(_profiles, spec)
    profiles = in_parallel(work, pieces, workers=workers_for(pieces), bar="profiles", chunk=_CHUNK)
    return fit_reference(list(chain.from_iterable(profiles)))


def _profiles(spec: ScorerSpec, piece: Piece) -> list[SegmentProfile]:
    profiler = Profiler(spec.front_end, segment_ticks=spec.segment_ticks)
    extractor = FeatureExtractor(spec.front_end, tick_frames=spec.tick_frames)
    profiles: list[SegmentProfile] = []
    for block in piece.recording.blocks(start_s=piece.start_s, stop_s=piece.stop_s):
        profiles += chain.from_iterable(map(profiler.push, extractor.push(block)))
    profiles += chain.from_iterable(map(profiler.push, extractor.flush()))
    return profiles + profiler.end()


def stream_ticks(scorer: Scorer, piece: Piece) -> Iterator[TickScore]:
    """The ticks of a piece as a separate stream. The scorer's state after each is that of the tick."""
    scorer.reset()
    for block in piece.recording.blocks(start_s=piece.start_s, stop_s=piece.stop_s):
        yield from map(scorer.score_tick, scorer.extract(block))
    yield from map(scorer.score_tick, scorer.extract_last())


_scorer: Scorer  # of this process


def _use(make: Callable[[], Scorer]) -> None:
    global _scorer
    _scorer = make()


def _measure(piece: Piece) -> RecordingSums:
    scorer = _scorer
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
