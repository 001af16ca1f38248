"""All frames of a stream of blocks, for whoever wants frames and no scores: training, tests, figures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32
from monitor.block import Block
from monitor.scoring.front_end import FrontEnd, FrontEndSpec
from monitor.scoring.quality import measure_quality
from monitor.scoring.ticks import Tick, Ticks


@dataclass(frozen=True)
class TickFrames:
    """What one tick gives to learn from: its frames (m, n_bands), float32, dB, or a reason why it has none.

    `n_frames` of it hold sound. `fresh` says that no frames join on before these: the stream begins here, or after a gap
    or a tick that may not be scored.
    """

    n_frames: int
    frames: F32
    fresh: bool
    reason: str | None


def scorable_frames(blocks: Iterable[Block], spec: FrontEndSpec, *, tick_frames: int) -> Iterator[TickFrames]:
    """Tick by tick the frames that the scorer would score; a tick that it would drop is named and left out."""
    front_end = FrontEnd(spec, tick_frames=tick_frames)
    hole = False
    for tick in _ticks(blocks, spec, tick_frames=tick_frames):
        heard = tick.samples[: (tick.n_frames - 1) * spec.hop_length + spec.n_fft]
        reason = measure_quality(heard, sample_rate_hz=spec.sample_rate_hz).reason
        fresh, hole = tick.fresh or hole, reason is not None
        if hole:
            yield TickFrames(tick.n_frames, np.empty((0, spec.n_bands), np.float32), fresh, reason)
        else:
            yield TickFrames(tick.n_frames, front_end.frames(tick.samples)[: tick.n_frames], fresh, None)


def stream_frames(blocks: Iterable[Block], spec: FrontEndSpec, *, tick_frames: int) -> Iterator[F32]:
    """Frames (m, n_bands), float32, dB, of every tick, the padded end of the stream cut to the frames that hold sound."""
    front_end = FrontEnd(spec, tick_frames=tick_frames)
    for tick in _ticks(blocks, spec, tick_frames=tick_frames):
        yield front_end.frames(tick.samples)[: tick.n_frames]


def _ticks(blocks: Iterable[Block], spec: FrontEndSpec, *, tick_frames: int) -> Iterator[Tick]:
    ticks = Ticks(n_fft=spec.n_fft, hop_length=spec.hop_length, tick_frames=tick_frames)
    for block in blocks:
        yield from ticks.push(block)
    yield from ticks.flush()
