"""The golden signal: a sound defined by a formula (docs/bundle.md), to check that a bundle scores as it did at its export."""

from itertools import pairwise

import numpy as np

from monitor.arrays import F32, U32
from monitor.block import Block
from monitor.errors import ScoreError
from monitor.scoring.scorer import Scorer, score_stream

_N_TONES = 16
_AMPLITUDE = 0.03
_NOISE = 0.0005
_SWELL_SAMPLES = 20_000
_BLOCK_SAMPLES = 16_384  # generated at a time, to save memory


def golden_signal(start: int, stop: int) -> F32:
    """Samples (stop - start,), float32, from index `start` on: rising sines over noise, each with a swell of its own period.

    Sixteen tones far apart over a little noise involve every band, and their rise and swell involve every frame. A
    different band edge, window or hop therefore gives a different score. The noise is an integer hash (Wellons's lowbias32).
    """
    index = np.arange(start, stop, dtype=np.uint32)
    signal = _NOISE * (_lowbias32(index) / 2.0**31 - 1.0)
    rise = index % (1 << 18) / (1 << 18)
    swells = 0.5 + 0.5 * np.cos(2.0 * np.pi * np.arange(_SWELL_SAMPLES) / _SWELL_SAMPLES)
    for k in range(_N_TONES):
        swell = swells[np.uint32(k + 1) * index % _SWELL_SAMPLES]
        turns = 0.004 * 1.375**k * index
        turns -= np.floor(turns)
        signal += _AMPLITUDE * rise * swell * np.sin(2.0 * np.pi * turns)
    return signal.astype(np.float32)


def golden_score(scorer: Scorer) -> float:
    """The score of the golden signal, one segment long, as a whole file."""
    front_end = scorer.spec.front_end
    hops = scorer.spec.segment_ticks * scorer.spec.tick_frames - 1
    n_samples = hops * front_end.hop_length + front_end.n_fft
    cuts = [*range(0, n_samples, _BLOCK_SAMPLES), n_samples]
    score_stream(scorer, (Block(a, golden_signal(a, b)) for a, b in pairwise(cuts)))
    score = scorer.file_score()
    scorer.reset()
    if score is None:
        raise ScoreError(f"the golden signal must give a score, got none from {hops + 1} frames")
    return score


def _lowbias32(x: U32) -> U32:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return np.asarray(x ^ (x >> np.uint32(16)))
