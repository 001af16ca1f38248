"""Measure and score normal sound on the exported model, from its cached ticks."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from monitor.errors import SourceError
from monitor.explain.reference import Reference, fit_reference
from monitor.learning.measured import RecordingSums, held_out_scores
from monitor.learning.thresholds import HeldOut
from monitor.scoring.scorer import Scorer, ScorerSpec
from train.datasets import Piece, workers_for
from train.datasets.parallel import in_parallel
from train.features.cache import stored_pieces
from train.features.shard import StoredPiece

_CHUNK = 4  # pieces that a process takes at a time, at most


def measure_pieces(make: Callable[[], Scorer], pieces: Sequence[Piece], *, workers: int | None = None) -> list[RecordingSums]:
    """Measure every piece, tick by tick, on all cores; SourceError names one without scorable sound. `make` can be pickled."""
    workers = workers_for(pieces) if workers is None else workers
    chunk = max(1, min(_CHUNK, len(pieces) // (4 * workers)))  # few enough that all have work to the end
    stored = _stored(pieces, make().spec, workers=workers)
    jobs = [(piece.recording.path, one) for piece, one in zip(pieces, stored, strict=True)]
    return list(in_parallel(_measure, jobs, workers=workers, bar="measure", chunk=chunk, set_up=partial(_use, make)))


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
    return fit_reference([profile for one in _stored(pieces, spec, workers=workers) for profile in one.profiles()])


def _stored(pieces: Sequence[Piece], spec: ScorerSpec, *, workers: int | None) -> list[StoredPiece]:
    n_frames, n_ticks = spec.tick_frames, spec.segment_ticks
    return stored_pieces(pieces, spec.front_end, tick_frames=n_frames, segment_ticks=n_ticks, workers=workers)


_scorer: Scorer  # of this process


def _use(make: Callable[[], Scorer]) -> None:
    global _scorer
    _scorer = make()


def _measure(job: tuple[Path, StoredPiece]) -> RecordingSums:
    path, stored = job
    scorer = _scorer
    front_end = scorer.spec.front_end
    ticks, sums, frequent = [], [], []
    scorer.reset()
    for tick in map(scorer.score_tick, stored.ticks(tick_frames=scorer.spec.tick_frames)):
        if tick.reason is None and tick.rms_dbfs is not None:
            ticks.append(tick)
            sums.append(scorer.tick_sums())
            frame = scorer.frequent_frame()
            frequent += [] if frame is None else [frame]
    if not ticks:
        raise SourceError(f"{path}: contains no sound that can be scored")
    return RecordingSums(
        sums=np.array(sums),
        levels_dbfs=np.array([tick.rms_dbfs for tick in ticks], np.float64),
        starts=np.array([tick.start for tick in ticks], np.int64),
        step_samples=scorer.spec.tick_frames * front_end.hop_length,
        hours=scorer.scored_frames * front_end.hop_length / front_end.sample_rate_hz / 3600,
        frequent=np.array(frequent, np.float32).reshape(len(frequent), front_end.n_bands),
    )
