"""One channel of a microphone, resampled to the reader's rate, with its own sample numbering."""

import time
from collections import deque

from monitor.audio.gaps import UnbrokenSound
from monitor.audio.pcm import mono
from monitor.audio.repetition import RepetitionDetector, regrouped
from monitor.audio.resample import Resampler
from monitor.audio.ring import SoundFormat
from monitor.audio.timeline import Timeline
from monitor.block import Block
from monitor.clock import clock_synced

MAX_BUFFERED_S = 60.0  # older blocks are dropped, which leaves a gap


class ChannelReader:
    """Mono sound at `sample_rate_hz`. Samples are numbered across gaps, from `past_s` before the creation of the reader on."""

    def __init__(self, *, channel: int | None, sample_rate_hz: int, past_s: float = 0.0) -> None:
        self.channel = channel  # counted from 1; None for the mean of all channels
        self.sample_rate_hz = sample_rate_hz
        self.timeline = Timeline(
            sample_rate_hz=sample_rate_hz,
            monotonic_s=time.monotonic() - past_s,
            utc_s=time.time() - past_s,
            synced=clock_synced(),
        )
        self.trouble: str | None = None  # one line: why this channel of a working microphone has no sound
        self.closed = False
        self._blocks: deque[Block] = deque()
        self._n_buffered = 0
        self._form: SoundFormat | None = None
        self._anchor = (0, 0)  # a sample index and the number of the corresponding frame
        self._anchored = False
        self._next_frame = 0
        self._due = 0  # one past the last sample that arrived
        self._period = 0  # samples that arrived together
        self._run: list[bytes] = []  # frames not converted yet
        self._resampler: Resampler | None = None
        self._repetition: RepetitionDetector | None = None

    def blocks(self) -> list[Block]:
        """The blocks since the last call. A jump in `Block.start` is a gap."""
        blocks = list(self._blocks)
        self._blocks.clear()
        self._n_buffered = 0
        return blocks

    @property
    def now(self) -> int:
        """Index of the sample that is due now, whether or not there is sound."""
        return self.timeline.sample_at(time.monotonic())

    def arrives_s(self, n_samples: int) -> float:
        """When the next `n_samples` should have arrived, on the monotonic clock. Samples arrive a period at a time."""
        n_periods = -(-n_samples // max(1, self._period))
        return self.timeline.arrives_s(self._due + n_periods * self._period)

    def close(self) -> None:
        """Accept no more sound."""
        self.closed = True

    def open(self, form: SoundFormat) -> None:
        """Start over, because the microphone has opened its device and frames are counted from 0 again."""
        self._end_run()
        self._form = form
        self._repetition = RepetitionDetector(rate_hz=form.rate_hz, looks_ahead=False)
        self._anchored = False
        self._next_frame = 0
        self.trouble = None
        if self.channel is not None and self.channel > form.n_channels:
            self.trouble = f"channel must be in 1..{form.n_channels}, got {self.channel}"

    def push(self, *sounds: UnbrokenSound) -> None:
        """Accept consecutive sounds from the microphone. Those without a gap between them are converted together."""
        if self._form is None or self.trouble is not None:
            return
        for sound in sounds:
            if sound.begins or sound.frame != self._next_frame:
                self._end_run()
            self._place(sound, self._form)
            self._run.append(sound.data)
        self._convert(self._form)

    def _place(self, sound: UnbrokenSound, form: SoundFormat) -> None:
        """Number the samples of a sound and record its arrival."""
        if sound.begins or not self._anchored:
            self._anchor = (self._after(sound.origin_s + sound.frame / form.rate_hz), sound.frame)
            self._anchored = True
            self.timeline.begin_run(sound.arrived_s)
        if self._resampler is None:
            self._resampler = Resampler(from_hz=form.rate_hz, to_hz=self.sample_rate_hz, start=self._index(sound.frame))
        self._next_frame = sound.frame + sound.n_frames
        self._due = self._index(self._next_frame)
        self._period = self._due - self._index(sound.frame)
        self.timeline.arrived(self._due, sound.arrived_s)

    def _convert(self, form: SoundFormat) -> None:
        if not self._run or self._resampler is None or self._repetition is None:
            return
        data, self._run = b"".join(self._run), []
        samples = mono(data, form, self.channel)
        for part in regrouped(self._repetition.push(samples), len(samples)):
            self._buffer(self._resampler.push(part.samples, repeating=part.repeating))

    def _end_run(self) -> None:
        """Convert what has arrived, and flush the resampler."""
        if self._resampler is not None and self._form is not None:
            self._convert(self._form)
            self._buffer(self._resampler.flush(stop=self._due))
            self._resampler = None

    def _after(self, monotonic_s: float) -> int:
        """The sample index according to the clock. After a gap at least one sample is skipped, because frames are missing."""
        return max(self.timeline.sample_at(monotonic_s), self._due + 1 if self._due else 0)

    def _index(self, frame: int) -> int:
        """The sample index of a frame, computed in integers from the last anchor so that no error accumulates over hours."""
        assert self._form is not None
        sample, anchor = self._anchor
        return sample + (frame - anchor) * self.sample_rate_hz // self._form.rate_hz

    def _buffer(self, blocks: list[Block]) -> None:
        self._blocks += blocks
        self._n_buffered += sum(len(block.samples) for block in blocks)
        while self._n_buffered > MAX_BUFFERED_S * self.sample_rate_hz:
            self._n_buffered -= len(self._blocks.popleft().samples)
