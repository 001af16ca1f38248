"""All frames of a stream of blocks, for whoever wants frames and no scores: training, tests, figures."""

from collections.abc import Iterable, Iterator

from monitor.core.arrays import F32
from monitor.core.block import Block
from monitor.core.frontend import FrontEnd, FrontEndSpec
from monitor.core.ticks import Ticks


def stream_frames(blocks: Iterable[Block], spec: FrontEndSpec, *, tick_frames: int) -> Iterator[F32]:
    """Frames (m, n_bands), float32, dB, tick by tick, the padded end of the stream cut to the frames that hold sound."""
    front_end = FrontEnd(spec, tick_frames=tick_frames)
    ticks = Ticks(n_fft=spec.n_fft, hop_length=spec.hop_length, tick_frames=tick_frames)
    for block in blocks:
        for tick in ticks.push(block):
            yield front_end.frames(tick.samples)
    for tick in ticks.flush():
        yield front_end.frames(tick.samples)[: tick.n_frames]
