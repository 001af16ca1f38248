"""One listener's share of a microphone: its channel, its rate, its own count of samples."""

import time
from collections import deque

import numpy as np

from monitor.arrays import F32
from monitor.audio.gaps import UnbrokenSound
from monitor.audio.pcm import mono, to_float
from monitor.audio.resample import Resampler
from monitor.audio.ring import RingFormat
from monitor.audio.timeline import Timeline
from monitor.block import Block
from monitor.clock import clock_synced

KEPT_S = 60.0  # blocks that nobody asks for; the oldest go first and become a gap


class ChannelReader:
    """Mono sound at `sample_rate_hz`, counted from the moment the tap was made, on through everything that is missed."""

    def __init__(self, *, channel: int | None, sample_rate_hz: int) -> None:
        self.channel = channel  # from 1; None: the mean of all
        self.sample_rate_hz = sample_rate_hz
        self.timeline = Timeline(
            sample_rate_hz=sample_rate_hz, monotonic_s=time.monotonic(), utc_s=time.time(), synced=clock_synced()
        )
        self.trouble: str | None = None  # one line: why this tap is deaf although its microphone may not be
        self.closed = False
        self._blocks: deque[Block] = deque()
        self._n_kept = 0
        self._form: RingFormat | None = None
        self._anchor = (0, 0)  # a sample's index and the number of the device's frame that it belongs to
        self._anchored = False
        self._next_frame = 0
        self._due = 0  # the sample after the last one that arrived
        self._resampler: Resampler | None = None
        self._start = 0  # of the next block

    def blocks(self) -> list[Block]:
        """What has arrived since last asked. A jump in `Block.start` is a gap."""
        blocks = list(self._blocks)
        self._blocks.clear()
        self._n_kept = 0
        return blocks

    @property
    def now(self) -> int:
        """The sample that is due now, heard or not."""
        return self.timeline.sample_at(time.monotonic())

    def close(self) -> None:
        """Take no more."""
        self.closed = True

    def open(self, form: RingFormat) -> None:
        """The microphone has opened its device: frames count from 0 again."""
        self._end_run()
        self._form = form
        self._anchored = False
        self._next_frame = 0
        self.trouble = None
        if self.channel is not None and self.channel > form.n_channels:
            self.trouble = f"channel must be in 1..{form.n_channels}, got {self.channel}"

    def push(self, piece: UnbrokenSound) -> None:
        """Take consecutive frames from the microphone."""
        form = self._form
        if form is None or self.trouble is not None:
            return
        if piece.begins or piece.frame != self._next_frame:
            self._end_run()
        if piece.begins or not self._anchored:
            self._anchor = (self._after(piece.origin_s + piece.frame / form.rate_hz), piece.frame)
            self._anchored = True
            self.timeline.begin_run(piece.arrived_s)
        if self._resampler is None:
            self._resampler = Resampler(from_hz=form.rate_hz, to_hz=self.sample_rate_hz)
            self._start = self._index(piece.frame)
        self._next_frame = piece.frame + piece.n_frames
        self._due = self._index(self._next_frame)
        self.timeline.arrived(self._due, piece.arrived_s)
        self._keep(self._resampler.push(mono(to_float(piece.data, form), self.channel)))

    def _end_run(self) -> None:
        """Give what the resampler still holds."""
        if self._resampler is not None:
            rest = self._resampler.push(np.empty(0, np.float32), last=True)
            self._keep(rest[: self._due - self._start])
            self._resampler = None

    def _after(self, monotonic_s: float) -> int:
        """The index by the clock, but never one that was given already: frames are missing, so at least one is skipped."""
        return max(self.timeline.sample_at(monotonic_s), self._due + 1 if self._due else 0)

    def _index(self, frame: int) -> int:
        """By integers from the last anchor, so that nothing adds up over the hours."""
        assert self._form is not None
        sample, anchor = self._anchor
        return sample + (frame - anchor) * self.sample_rate_hz // self._form.rate_hz

    def _keep(self, samples: F32) -> None:
        if not len(samples):
            return
        self._blocks.append(Block(self._start, samples))
        self._start += len(samples)
        self._n_kept += len(samples)
        while self._n_kept > KEPT_S * self.sample_rate_hz:
            self._n_kept -= len(self._blocks.popleft().samples)
