"""The clip recorder of one machine: extracts the sound around each event."""

from dataclasses import dataclass

from monitor.block import Block
from monitor.clips.clip import EventClip, PreRollBuffer
from monitor.clips.service import ClipService
from monitor.clips.spectrogram import PictureReference
from monitor.config import ClipsConfig
from monitor.events.event import Event
from monitor.events.pipeline import Result


@dataclass
class _Open:
    """A clip that is still being recorded."""

    event: Event
    onset: int
    raised: int
    start: int
    until: int  # it ends at this sample at the latest
    blocks: list[Block]
    ratios: list[tuple[int, float | None]]


class ClipRecorder:
    """Receives every block and every result of a monitor. All calls return at once, because the clip service writes the files.

    A clip begins `pre_s` before the onset and ends `post_s` after the end of the event, or when it is `max_s` long. It holds
    only the unbroken sound in which the event was raised, so it begins later or ends earlier if samples are missing. Its
    content does not depend on block sizes.
    """

    def __init__(self, service: ClipService, reference: PictureReference, clips: ClipsConfig) -> None:
        rate_hz = reference.front_end.sample_rate_hz
        self._service = service
        self._reference = reference
        self._rate_hz = rate_hz
        self._pre, self._post, self._max = (round(s * rate_hz) for s in (clips.pre_s, clips.post_s, clips.max_s))
        self._pre_roll = PreRollBuffer(n_samples=self._max + reference.front_end.n_fft)  # a tick ended less than a frame ago
        self._open: _Open | None = None

    def clip_name(self, machine: str, event_id: str) -> str | None:
        """The file name of an event's clip; None if no clips are written."""
        return self._service.clip_name(machine, event_id)

    def push_block(self, block: Block) -> None:
        """Receive a block before it is scored."""
        if not self._pre_roll.follows(block):
            self._finish(self._pre_roll.stop)
        self._pre_roll.push(block)
        if self._open is not None:
            self._open.blocks.append(block)

    def push(self, result: Result) -> None:
        """Receive the result of the next tick."""
        stop = result.tick.stop
        if result.tick.quality is None:  # no samples
            self._finish(self._pre_roll.stop)
        else:
            self._pre_roll.add_ratio(stop, result.ratio)
            if self._open is not None:
                self._open.ratios.append((stop, result.ratio))
        if result.event is not None:
            self._update(result.event, stop)
        if self._open is not None and stop >= self._open.until:
            self._finish(stop)

    def close(self, event: Event | None) -> None:
        """End the open clip. `event` is the last message of its event."""
        if event is not None:
            self._update(event, self._pre_roll.stop)
        self._finish(self._pre_roll.stop)

    def snapshot(self, event_id: str) -> EventClip | None:
        """The clip of an open event, as recorded so far; None if the event is not open."""
        if self._open is None or self._open.event.id != event_id:
            return None
        return self._cut(self._open, self._pre_roll.stop)

    def _update(self, event: Event, stop: int) -> None:
        if event.event_type == "start":
            self._begin(event, stop)
        elif self._open is not None and self._open.event.id == event.id:
            self._open.event = event
            if event.event_type == "end":
                self._open.until = min(self._open.until, stop + self._post)

    def _begin(self, event: Event, stop: int) -> None:
        self._finish(stop)
        onset = stop - round((event.ts - event.onset_ts).total_seconds() * self._rate_hz)
        start = max(self._pre_roll.start, onset - self._pre, stop - self._max)
        blocks, ratios = self._pre_roll.since(start)
        self._open = _Open(event, onset, stop, start, start + self._max, list(blocks), list(ratios))
        self._service.show(self._cut(self._open, stop), self._reference)

    def _finish(self, stop: int) -> None:
        if self._open is not None:
            self._service.save(self._cut(self._open, stop), self._reference)
            self._open = None

    def _cut(self, clip: _Open, stop: int) -> EventClip:
        return EventClip(
            event=clip.event,
            rate_hz=self._rate_hz,
            onset=clip.onset,
            raised=clip.raised,
            start=clip.start,
            stop=min(stop, clip.until),
            blocks=tuple(clip.blocks),
            ratios=tuple(clip.ratios),
        )
