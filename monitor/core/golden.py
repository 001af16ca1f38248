"""The golden signal: the same sound everywhere, by a formula (docs/bundle.md), to prove that a bundle scores as it did."""

import numpy as np

from monitor.core.arrays import F32
from monitor.core.block import Block
from monitor.core.errors import ScoreError
from monitor.core.scorer import Scorer, score_stream

_TONES = ((0.01, 0.1), (0.05, 0.05), (0.2, 0.02))  # frequency as a fraction of the rate, amplitude
_NOISE = 0.02


def golden_signal(n_samples: int) -> F32:
    """Samples (n_samples,), float32: three sines plus noise from an integer hash (Mueller's lowbias32)."""
    index = np.arange(n_samples)
    sines = sum(amplitude * np.sin(2.0 * np.pi * (frequency * index % 1.0)) for frequency, amplitude in _TONES)
    noise = _lowbias32(index.astype(np.uint32)) / 2.0**31 - 1.0
    return np.asarray(sines + _NOISE * noise, np.float32)


def golden_score(scorer: Scorer) -> float:
    """The score of one segment's length of the golden signal, as a whole file."""
    front_end = scorer.spec.front_end
    hops = scorer.spec.segment_ticks * scorer.spec.tick_frames - 1
    score_stream(scorer, [Block(0, golden_signal(hops * front_end.hop_length + front_end.n_fft))])
    score = scorer.file_score()
    scorer.reset()
    if score is None:
        raise ScoreError(f"the golden signal must give a score, got none from {hops + 1} frames")
    return score


def _lowbias32(x: np.typing.NDArray[np.uint32]) -> np.typing.NDArray[np.uint32]:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
