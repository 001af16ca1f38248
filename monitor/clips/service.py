"""The clip service of a node: writes clips and pictures, publishes the latest picture, sends clips on request."""

import logging
from collections.abc import Callable
from weakref import WeakValueDictionary

from monitor.clips.clip import EventClip
from monitor.clips.spectrogram import PictureReference, draw
from monitor.clips.store import ClipStore, clip_stem, encode_flac, shorten_flac
from monitor.clips.worker import Job
from monitor.errors import SinkError

log = logging.getLogger(__name__)
PICTURE_BYTES = 100_000
SENT_BYTES = 1_000_000
FETCH_EVERY_S = 10.0  # so that requests do not saturate a slow connection
PRIVATE_COLUMN_S = 1.0  # speech averaged over a second is unintelligible


class ClipService:
    """Writes and sends the clips of all machines of a node. No call blocks unless `run` does."""

    def __init__(
        self,
        store: ClipStore | None,
        *,
        run: Callable[[Job], None],
        present: Callable[[str, str, bytes], None] | None,
        private: bool = False,
        changed: Callable[[str], None] | None = None,
    ) -> None:
        """`store` receives the clips; with None, none are written. `run` runs a job, now or later. `present` publishes a PNG
        of a machine and an event.

        If `private`, no sound is written or sent, and pictures have a resolution of one second. `changed` receives the id of an
        event that has a new clip or picture, where `run` runs its jobs.
        """
        self.n_saved = 0
        self._store = None if private else store
        self._run = run
        self._present = present
        self._private = private
        self._changed = changed or (lambda _event_id: None)
        self._latest: dict[str, tuple[str, bytes]] = {}  # event id and picture, by machine
        self._unwritten: WeakValueDictionary[str, EventClip] = WeakValueDictionary()  # by stem; a job to write each still exists
        self._column_s = PRIVATE_COLUMN_S if private else 0.0
        self._fetched_at: float | None = None
        if self._store is not None:
            run(self._store.rescan)

    def clip_name(self, machine: str, event_id: str) -> str | None:
        """The file name of an event's clip; None if no clips are written."""
        return None if self._store is None else f"{clip_stem(machine, event_id)}.flac"

    def show(self, clip: EventClip, reference: PictureReference) -> None:
        """Publish a picture of a clip."""
        present = self._present
        if present is not None:
            self._run(lambda: self._show(present, clip, reference))

    def save(self, clip: EventClip, reference: PictureReference) -> None:
        """Write a clip and its picture."""
        store = self._store
        if store is not None:
            self._unwritten[clip_stem(clip.event.machine, clip.event.id)] = clip
            self._run(lambda: self._save(store, clip, reference))

    def fetch(
        self, machine: str, event_id: str, *, snapshot: EventClip | None, now: float, send: Callable[[bytes], None]
    ) -> str | None:
        """Send an event's clip, shortened to the size limit. Return the reason if this is refused. `now` is monotonic, in s.

        `snapshot` is the clip as recorded so far, if the event is still open.
        """
        store, stem = self._store, clip_stem(machine, event_id)
        if store is None:
            return self._no_clips
        snapshot = snapshot or self._unwritten.get(stem)
        if snapshot is None and stem not in store.stems:
            return f"there is no clip of {event_id}"
        wait_s = 0.0 if self._fetched_at is None else self._fetched_at + FETCH_EVERY_S - now
        if wait_s > 0:
            return f"one clip every {FETCH_EVERY_S:.0f} s: try again in {wait_s:.0f} s"
        self._fetched_at = now
        self._run(lambda: self._send(store, stem, snapshot, send))
        return None

    def has_clip(self, machine: str, event_id: str) -> bool:
        """Whether an event's clip is stored."""
        return self._store is not None and clip_stem(machine, event_id) in self._store.stems

    def has_picture(self, machine: str, event_id: str) -> bool:
        """Whether there is a picture of an event."""
        latest, _ = self._latest.get(machine, (None, b""))
        is_stored = self._store is not None and clip_stem(machine, event_id) in self._store.pictures
        return latest == event_id or is_stored

    def read_clip(self, event_id: str, *, snapshot: EventClip | None) -> tuple[str, bytes]:
        """The name and content of an event's clip; SinkError with the reason if there is none. Waits for the disk.

        `snapshot` is the clip as recorded so far, if the event is still open.
        """
        if self._store is None:
            raise SinkError(self._no_clips)
        snapshot = snapshot or self._unwritten_clip(event_id)
        if snapshot is not None:
            return f"{clip_stem(snapshot.event.machine, event_id)}.flac", _encode(snapshot)
        stem = _find(self._store.stems, event_id)
        if stem is None:
            raise SinkError(f"there is no clip of {event_id}")
        return f"{stem}.flac", self._store.read(stem)

    def read_picture(self, event_id: str) -> tuple[str, bytes]:
        """The name and content of an event's picture, of its whole clip if it is stored. SinkError as for a clip."""
        stem = None if self._store is None else _find(self._store.pictures, event_id)
        if self._store is not None and stem is not None:
            return f"{stem}.png", self._store.read(stem, ".png")
        for machine, (found, png) in [*self._latest.items()]:
            if found == event_id:
                return f"{clip_stem(machine, event_id)}.png", png
        raise SinkError(f"there is no picture of {event_id}")

    def _unwritten_clip(self, event_id: str) -> EventClip | None:
        clips = [ref() for ref in self._unwritten.valuerefs()]  # a copy, because other threads add and remove clips
        return next((clip for clip in clips if clip is not None and clip.event.id == event_id), None)

    @property
    def _no_clips(self) -> str:
        return "sending sound is disabled (private: true)" if self._private else "clips are disabled (clips.enabled: false)"

    def _show(self, present: Callable[[str, str, bytes], None], clip: EventClip, reference: PictureReference) -> None:
        png = self._picture(clip, reference)
        self._latest[clip.event.machine] = (clip.event.id, png)
        present(clip.event.machine, clip.event.id, png)
        self._changed(clip.event.id)

    def _send(self, store: ClipStore, stem: str, snapshot: EventClip | None, send: Callable[[bytes], None]) -> None:
        try:
            flac = store.read(stem) if snapshot is None else _encode(snapshot)
        except SinkError as error:  # not a failure, because clips may be deleted by hand
            log.warning("clips: %s", error)
            store.rescan()
            return
        send(shorten_flac(flac, max_bytes=SENT_BYTES))

    def _save(self, store: ClipStore, clip: EventClip, reference: PictureReference) -> None:
        stem = clip_stem(clip.event.machine, clip.event.id)
        store.save(stem, {".flac": _encode(clip), ".png": self._picture(clip, reference)})
        self.n_saved += 1
        self._changed(clip.event.id)

    def _picture(self, clip: EventClip, reference: PictureReference) -> bytes:
        return draw(clip, reference, column_s=self._column_s, max_bytes=PICTURE_BYTES)


def _find(stems: frozenset[str], event_id: str) -> str | None:
    return next((stem for stem in stems if stem.endswith(f"-{event_id}")), None)


def _encode(clip: EventClip) -> bytes:
    title = f"{clip.event.machine} {clip.event.id}"
    return encode_flac(clip.samples(), rate_hz=clip.rate_hz, title=title, comment=clip.event.summary)
