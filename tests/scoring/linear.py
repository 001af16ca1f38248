"""A small linear model and a scorer around it, without an interpreter."""

from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32
from monitor.block import Block
from monitor.scoring.components import Detector, Reconstruction
from monitor.scoring.frames import stream_frames
from monitor.scoring.front_end import LogMelSpec
from monitor.scoring.scorer import Scorer, ScorerSpec
from monitor.scoring.windows import WindowSpec
from tests.signals import hum

FRONT_END = LogMelSpec(sample_rate_hz=16000, n_fft=1024, hop_length=512, n_mels=64, fmax_hz=8000.0)
TICK = 32 * 512


def frames_of(parts: list[Block], front_end: LogMelSpec = FRONT_END) -> F32:
    """All whole frames (m, n_mels) of a stream of blocks."""
    return np.concatenate(list(stream_frames(parts, front_end, tick_frames=32)))


@dataclass(frozen=True)
class LinearModel:
    """Predicts every window as a fixed linear mix (n_in, n_in) of its distance from a centre (n_in,)."""

    centre: F32
    mix: F32

    def encode(self, frames: F32) -> F32:
        return frames

    def predict(self, windows: F32) -> F32:
        return np.asarray(self.centre + (windows - self.centre) @ self.mix)


def linear_model(*, n_frames: int = 5, front_end: LogMelSpec = FRONT_END) -> LinearModel:
    """Predicts `hum` well."""
    rng = np.random.default_rng(3)
    width = n_frames * front_end.n_bands
    hum_frames = frames_of([Block(0, hum(0, 4 * front_end.sample_rate_hz))], front_end)
    centre = np.tile(hum_frames.mean(axis=0), n_frames).astype(np.float32)
    mix = 0.5 * np.eye(width) + 0.001 * rng.standard_normal((width, width))
    return LinearModel(centre, mix.astype(np.float32))


def linear_scorer(
    *, n_frames: int = 5, segment_ticks: int = 10, hop_frames: int = 1, front_end: LogMelSpec = FRONT_END
) -> Scorer:
    """Scores how far sound is from `hum`."""
    frames = tuple(range(n_frames))
    spec = ScorerSpec(
        front_end=front_end,
        window=WindowSpec(n_frames=n_frames, hop_frames=hop_frames),
        tick_frames=32,
        segment_ticks=segment_ticks,
        input_frames=frames,
        target_frames=frames,
    )
    return Scorer(spec, linear_model(n_frames=n_frames, front_end=front_end), Detector([Reconstruction("mse")]))
