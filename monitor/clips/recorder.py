"""Evidence of one machine's events: the sound around each, cut where it ends or breaks off."""

from dataclasses import dataclass, replace

from monitor.block import Block
from monitor.clips.clip import EventClip, PreRollBuffer
from monitor.clips.service import ClipService
from monitor.clips.spectrogram import PictureReference
from monitor.config import ClipsConfig
from monitor.events.event import Event
from monitor.events.pipeline import Result


@dataclass
class _Open:
    """A scene that goes on."""

    event: Event
    onset: int
    raised: int
    start: int
    until: int  # the sample at which it ends at the latest
    blocks: list[Block]
    ratios: list[tuple[int, float | None]]


class ClipRecorder:
    """Hears what the pipeline hears, and is told what it says. Both return at once: files are the archive's.

    A scene begins `pre_s` before the onset and ends `post_s` after the end of the event, or when it is `max_s` long. It is
    one piece of sound, that in which the event was raised: where samples are missing it begins later, or ends earlier.
    What it holds does not depend on how the sound is cut into blocks.
    """

    def __init__(self, archive: ClipService, reference: PictureReference, clips: ClipsConfig) -> None:
        rate_hz = reference.front_end.sample_rate_hz
        self._archive = archive
        self._reference = reference
        self._rate_hz = rate_hz
        self._pre, self._post, self._most = (round(s * rate_hz) for s in (clips.pre_s, clips.post_s, clips.max_s))
        self._pre_roll = PreRollBuffer(n_samples=self._most + reference.front_end.n_fft)  # a tick ends less than a frame ago
        self._open: _Open | None = None

    def push(self, block: Block) -> None:
        """A block, before the pipeline gets it."""
        if not self._pre_roll.follows(block):
            self._finish(self._pre_roll.stop)
        self._pre_roll.push(block)
        if self._open is not None:
            self._open.blocks.append(block)

    def attach_clip(self, step: Result) -> Result:
        """What the pipeline made of it; returns the same with the clip's name in its event."""
        stop = step.tick.stop
        if step.tick.quality is None:  # nothing arrives any more
            self._finish(self._pre_roll.stop)
        else:
            self._pre_roll.add_ratio(stop, step.ratio)
            if self._open is not None:
                self._open.ratios.append((stop, step.ratio))
        if step.event is not None:
            step = replace(step, event=self._take(step.event, stop))
        if self._open is not None and stop >= self._open.until:
            self._finish(stop)
        return step

    def close(self, event: Event | None) -> Event | None:
        """Nothing more will be heard; returns the last event, if there is one, with the clip's name."""
        event = None if event is None else self._take(event, self._pre_roll.stop)
        self._finish(self._pre_roll.stop)
        return event

    def so_far(self, event_id: str) -> EventClip | None:
        """The scene of an event of which the clip is still being heard."""
        return (
            self._scene(self._open, self._pre_roll.stop) if self._open is not None and self._open.event.id == event_id else None
        )

    def _take(self, event: Event, stop: int) -> Event:
        event = self._archive.name_clip(event)
        if event.event_type == "start":
            self._begin(event, stop)
        elif self._open is not None and self._open.event.id == event.id:
            self._open.event = event
            if event.event_type == "end":
                self._open.until = min(self._open.until, stop + self._post)
        return event

    def _begin(self, event: Event, stop: int) -> None:
        self._finish(stop)
        onset = stop - round((event.ts - event.onset_ts).total_seconds() * self._rate_hz)
        start = max(self._pre_roll.start, onset - self._pre, stop - self._most)
        blocks, ratios = self._pre_roll.since(start)
        self._open = _Open(event, onset, stop, start, start + self._most, list(blocks), list(ratios))
        self._archive.show(self._scene(self._open, stop), self._reference)

    def _finish(self, stop: int) -> None:
        if self._open is not None:
            self._archive.keep(self._scene(self._open, stop), self._reference)
            self._open = None

    def _scene(self, scene: _Open, stop: int) -> EventClip:
        return EventClip(
            event=scene.event,
            rate_hz=self._rate_hz,
            onset=scene.onset,
            raised=scene.raised,
            start=scene.start,
            stop=min(stop, scene.until),
            blocks=tuple(scene.blocks),
            ratios=tuple(scene.ratios),
        )
