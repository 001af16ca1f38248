"""The archive: makes clips and pictures of scenes, keeps them as files, shows the latest picture, and lends clips."""

import logging
from collections.abc import Callable
from dataclasses import replace

from monitor.clips.clip import EventClip
from monitor.clips.spectrogram import PictureReference, draw
from monitor.clips.store import ClipStore, clip_stem, encode_flac, shorten_flac
from monitor.clips.worker import Job
from monitor.errors import SinkError
from monitor.events.event import Event

log = logging.getLogger(__name__)
PICTURE_BYTES = 100_000
SENT_BYTES = 1_000_000
FETCH_EVERY_S = 10.0  # so that asking does not fill a slow connection
SECOND_S = 1.0  # no word survives being averaged over it


class ClipService:
    """What all machines of a node share. No call waits for anything, if `run` does not."""

    def __init__(
        self,
        store: ClipStore | None,
        *,
        run: Callable[[Job], None],
        present: Callable[[str, bytes], None] | None,
        private: bool = False,
    ) -> None:
        """`store`: where clips are kept, None for none. `run` does a job, or has it done. `present` takes a topic and a PNG.

        Where it is `private`, no sound leaves it, and pictures show whole seconds.
        """
        self.n_kept = 0
        self._store = None if private else store
        self._run = run
        self._present = present
        self._private = private
        self._column_s = SECOND_S if private else 0.0
        self._fetched_at: float | None = None
        if self._store is not None:
            run(self._store.rescan)

    def name_clip(self, event: Event) -> Event:
        """The event with its clip's name, which depends on its id alone."""
        return event if self._store is None else replace(event, clip=f"{clip_stem(event.machine, event.id)}.flac")

    def show(self, scene: EventClip, reference: PictureReference) -> None:
        """Publish a picture of it."""
        present = self._present
        if present is not None:
            self._run(lambda: present(f"{scene.event.machine}/snapshot", self._picture(scene, reference)))

    def keep(self, scene: EventClip, reference: PictureReference) -> None:
        """Write its clip and its picture."""
        store = self._store
        if store is not None:
            self._run(lambda: self._keep(store, scene, reference))

    def fetch(
        self, machine: str, event_id: str, *, so_far: EventClip | None, now: float, send: Callable[[bytes], None]
    ) -> str | None:
        """Have an event's clip sent, as much of it as may be sent; returns why not, if so. `now` is monotonic, in s.

        `so_far`: the event's scene where it is not over yet.
        """
        store, stem = self._store, clip_stem(machine, event_id)
        if store is None:
            return "no sound may leave this computer (private)" if self._private else "no clips are kept (clips.enabled)"
        if so_far is None and stem not in store.known:
            return f"there is no clip of {event_id}"
        wait_s = 0.0 if self._fetched_at is None else self._fetched_at + FETCH_EVERY_S - now
        if wait_s > 0:
            return f"one clip every {FETCH_EVERY_S:.0f} s: try again in {wait_s:.0f} s"
        self._fetched_at = now
        self._run(lambda: self._send(store, stem, so_far, send))
        return None

    def _send(self, store: ClipStore, stem: str, so_far: EventClip | None, send: Callable[[bytes], None]) -> None:
        try:
            clip = store.read(stem) if so_far is None else _clip(so_far)
        except SinkError as error:  # people may delete what they like; nothing that was to be kept is lost
            log.warning("clips: %s", error)
            store.rescan()
            return
        send(shorten_flac(clip, max_bytes=SENT_BYTES))

    def _keep(self, store: ClipStore, scene: EventClip, reference: PictureReference) -> None:
        stem = clip_stem(scene.event.machine, scene.event.id)
        store.keep(stem, {".flac": _clip(scene), ".png": self._picture(scene, reference)})
        self.n_kept += 1

    def _picture(self, scene: EventClip, reference: PictureReference) -> bytes:
        return draw(scene, reference, column_s=self._column_s, max_bytes=PICTURE_BYTES)


def _clip(scene: EventClip) -> bytes:
    title = f"{scene.event.machine} {scene.event.id}"
    return encode_flac(scene.samples(), rate_hz=scene.rate_hz, title=title, comment=scene.event.summary)
