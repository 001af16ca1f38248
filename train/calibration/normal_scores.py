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

_CHUNK = 4  # pieces that a process takes at a time, at most


def measure_pieces(make: Callable[[], Scorer], pieces: Sequence[Piece], *, workers: int | None = None) -> list[RecordingSums]:
    """Measure every piece, tick by tick, on all cores; SourceError names one without scorable sound. `make` can be pickled."""
    workers, chunk = _shares(pieces, workers)
    return list(in_parallel(_measure, pieces, workers=workers, bar="measure", chunk=chunk, set_up=partial(_use, make)))


def score_pieces(make: Callable[[], Scorer], pieces: Sequence[Piece], *, n_learned: int | None = None) -> HeldOut:
    """Score normal sound that the detector was not fitted to; it was fitted to `n_learned` recordings, or as many."""
    scorer = make()
    measured = measure_pieces(make, pieces)
    return held_out_scores(
        [(scorer.detector, measured)],
        segment_ticks=scorer.spec.segment_ticks,
        n_recordings=len(measured),
        n_learned=n_learned or len(measured),
    )


def expected_of(pieces: Sequence[Piece], spec: ScorerSpec, *, workers: int | None = None) -> Reference:
    """The reference of normal sound, from the profiles of its segments; a recording shorter than one has one profile."""
    work = partial(_profiles, spec)
    workers, chunk = _shares(pieces, workers)
    profiles = in_parallel(work, pieces, workers=workers, bar="profiles", chunk=chunk)
    return fit_reference(list(chain.from_iterable(profiles)))


def _shares(pieces: Sequence[Piece], workers: int | None) -> tuple[int, int]:
    """The number of processes, and how many pieces each takes at a time: few enough that all have work to the end."""
    workers = workers_for(pieces) if workers is None else workers
    return workers, max(1, min(_CHUNK, len(pieces) // (4 * workers)))


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
