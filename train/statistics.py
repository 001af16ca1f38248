"""The sums of whole segments of recordings: what the detector's statistics are fitted on."""

from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from monitor.core.arrays import F64
from monitor.core.scorer import Scorer
from train.calibrate import stream_ticks
from train.datasets import Piece


def measure_pieces(scorer: Scorer, pieces: Sequence[Piece]) -> F64:
    """The detector's sums (n, k) over segments that do not overlap; of a piece shorter than one, over all of it."""
    bar = tqdm(pieces, desc="statistics", unit="file", disable=None, leave=False)
    return np.array([sums for piece in bar for sums in _segments(scorer, piece)])


def _segments(scorer: Scorer, piece: Piece) -> Iterator[F64]:
    n_new, is_first = 0, True
    for tick in stream_ticks(scorer, piece):
        n_new += tick.reason is None
        if n_new >= scorer.spec.segment_ticks and tick.n_ticks == scorer.spec.segment_ticks:
            yield scorer.segment_sums()
            n_new, is_first = 0, False
    whole = scorer.file_sums()
    if is_first and whole is not None:
        yield whole
