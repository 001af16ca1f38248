"""The clip service of a node: writes clips and pictures, publishes the latest picture, sends clips on request."""

import logging
from collections.abc import Callable

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
        present: Callable[[str, bytes], None] | None,
        private: bool = False,
    ) -> None:
        """`store` receives the clips; with None, none are written. `run` runs a job, now or later. `present` publishes a PNG.

        If `private`, no sound is written or sent, and pictures have a resolution of one second.
        """
        self.n_saved = 0
        self._store = None if private else store
        self._run = run
        self._present = present
        self._private = private
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
            self._run(lambda: present(f"{clip.event.machine}/snapshot", self._picture(clip, reference)))

    def save(self, clip: EventClip, reference: PictureReference) -> None:
        """Write a clip and its picture."""
        store = self._store
        if store is not None:
            self._run(lambda: self._save(store, clip, reference))

    def fetch(
        self, machine: str, event_id: str, *, snapshot: EventClip | None, now: float, send: Callable[[bytes], None]
    ) -> str | None:
        """Send an event's clip, shortened to the size limit. Return the reason if this is refused. `now` is monotonic, in s.

        `snapshot` is the clip as recorded so far, if the event is still open.
        """
        store, stem = self._store, clip_stem(machine, event_id)
        if store is None:
            return "sending sound is disabled (private: true)" if self._private else "clips are disabled (clips.enabled: false)"
        if snapshot is None and stem not in store.stems:
            return f"there is no clip of {event_id}"
        wait_s = 0.0 if self._fetched_at is None else self._fetched_at + FETCH_EVERY_S - now
        if wait_s > 0:
            return f"one clip every {FETCH_EVERY_S:.0f} s: try again in {wait_s:.0f} s"
        self._fetched_at = now
        self._run(lambda: self._send(store, stem, snapshot, send))
        return None

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

    def _picture(self, clip: EventClip, reference: PictureReference) -> bytes:
        return draw(clip, reference, column_s=self._column_s, max_bytes=PICTURE_BYTES)


def _encode(clip: EventClip) -> bytes:
    title = f"{clip.event.machine} {clip.event.id}"
    return encode_flac(clip.samples(), rate_hz=clip.rate_hz, title=title, comment=clip.event.summary)
