"""The frames of a whole stream of blocks, without scores: for training, pictures and tests."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from monitor.arrays import F32
from monitor.block import Block
from monitor.scoring.features import FeatureExtractor, TickFrames
from monitor.scoring.front_end import FrontEnd, FrontEndSpec
from monitor.scoring.ticks import Ticks


def scorable_frames(blocks: Iterable[Block], spec: FrontEndSpec, *, tick_frames: int) -> Iterator[TickFrames]:
    """Yield a stream's ticks. A tick is also `fresh` where the one before it may not be scored."""
    extractor = FeatureExtractor(spec, tick_frames=tick_frames)
    after_hole = False
    for block in blocks:
        for tick in extractor.push(block):
            yield replace(tick, fresh=tick.fresh or after_hole)
            after_hole = tick.frames is None
    yield from (replace(tick, fresh=tick.fresh or after_hole) for tick in extractor.flush())


def stream_frames(blocks: Iterable[Block], spec: FrontEndSpec, *, tick_frames: int) -> Iterator[F32]:
    """Yield the frames (n_frames, n_bands), float32, dB, of every tick, whatever its quality; no padding."""
    front_end = FrontEnd(spec, tick_frames=tick_frames)
    ticks = Ticks(n_fft=spec.n_fft, hop_length=spec.hop_length, tick_frames=tick_frames)
    for block in blocks:
        for tick in ticks.push(block):
            yield front_end.frames(tick.samples)
    for tick in ticks.flush():
        yield front_end.frames(tick.samples)[: tick.n_frames]
