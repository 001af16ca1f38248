"""The feature extractor: turns blocks of samples into the frames of each tick, and checks whether they may be scored."""

from dataclasses import dataclass, replace

from monitor.arrays import F32
from monitor.block import Block
from monitor.scoring.front_end import FrontEnd, FrontEndSpec
from monitor.scoring.quality import Quality, measure_quality
from monitor.scoring.ticks import Tick, Ticks


@dataclass(frozen=True)
class TickFrames:
    """The frames of one tick. `stop` is one past its last sample, where the next tick starts.

    `frames` (tick_frames, n_bands), dB, of which the first `n_frames` hold sound. None where they may not be scored.
    `samples` (tick_frames * hop_length + n_fft - hop_length,), float32, full scale [-1, 1].
    """

    start: int
    stop: int
    n_frames: int
    fresh: bool  # no sound directly before it
    quality: Quality
    frames: F32 | None
    samples: F32


class FeatureExtractor:
    """Turn a stream of blocks into the frames of its ticks. The result is bit-identical for all block sizes."""

    def __init__(self, front_end: FrontEndSpec, *, tick_frames: int) -> None:
        self.idle_below_dbfs: float | None = None  # below this level the machine is off
        self._hop_length, self._n_fft, self._rate_hz = front_end.hop_length, front_end.n_fft, front_end.sample_rate_hz
        self._front_end = FrontEnd(front_end, tick_frames=tick_frames)
        self._ticks = Ticks(n_fft=front_end.n_fft, hop_length=front_end.hop_length, tick_frames=tick_frames)

    @property
    def step_samples(self) -> int:
        """The number of samples from one tick to the next."""
        return self._ticks.step_samples

    @property
    def n_missing(self) -> int:
        """The number of samples until the next tick is full."""
        return self._ticks.n_missing

    def reset(self) -> None:
        """Drop the partial tick. The next block starts a new stream."""
        self._ticks.reset()

    def push(self, block: Block) -> list[TickFrames]:
        """Append a block and return the ticks that it completes."""
        return [self._extract(tick) for tick in self._ticks.push(block)]

    def flush(self) -> list[TickFrames]:
        """Return the partial tick at the end of a recording."""
        return [self._extract(tick) for tick in self._ticks.flush()]

    def _extract(self, tick: Tick) -> TickFrames:
        stop = tick.start + tick.n_frames * self._hop_length
        sound = tick.samples[: (tick.n_frames - 1) * self._hop_length + self._n_fft]
        quality = measure_quality(sound, sample_rate_hz=self._rate_hz, idle_below_dbfs=self.idle_below_dbfs)
        if tick.repeating and quality.reason in (None, "idle"):
            quality = replace(quality, reason="repeating")
        frames = self._front_end.frames(tick.samples) if quality.reason is None else None
        return TickFrames(tick.start, stop, tick.n_frames, tick.fresh, quality, frames, tick.samples)
