"""A microphone's sound for a tool: lent by the service where it holds the microphone, else opened by the tool itself.

Every tool that hears anything comes through `open_sound`.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from monitor.audio.gaps import GapDetector, UnbrokenSound
from monitor.audio.microphone import Microphone
from monitor.audio.ring import Reader, Ring, RingFormat
from monitor.daemon.shared_microphone import Purpose, find_shared, open_shared, shared_microphones
from monitor.errors import SourceError, StethosError

log = logging.getLogger(__name__)
RATE_HZ = 48_000  # what most devices do; others do what they can
SILENT_S = 2.0  # a ring that has not grown for so long may have been replaced
ASK_S = 1.0
POLL_S = 0.1
OPEN_S = 15.0


class Sound(Protocol):
    """Sound as the device gives it. `poll` is called about ten times a second and never waits for sound."""

    form: RingFormat | None  # None while there is none
    trouble: str | None  # why there is none

    def poll(self) -> list[UnbrokenSound]:
        """What has arrived since. A piece that `begins`, or whose frame does not follow, comes after a gap."""

    def close(self) -> None:
        """Give everything back."""


class _Opening:
    """One ring, and what can be said of the chunks in it."""

    def __init__(self, ring: Ring, *, backlog: bool) -> None:
        self.ring = ring
        self._reader = Reader(ring, backlog=backlog)
        self._runs = GapDetector(rate_hz=ring.format.rate_hz)
        self.progress_s = time.monotonic()

    def read(self) -> list[UnbrokenSound]:
        chunks = list(self._reader.read())
        if chunks:
            self.progress_s = time.monotonic()
        return self._runs.push(chunks)

    def end(self) -> list[UnbrokenSound]:
        return self._runs.release()


class SharedSound:
    """Sound from the service's ring; waits for the service where it is restarted."""

    def __init__(self, path: Path, selector: str, *, purpose: Purpose) -> None:
        self._path = path
        self._selector = selector
        self._purpose = purpose
        self._opening: _Opening | None = None
        self._asked_s = 0.0
        self.form: RingFormat | None = None
        self.trouble: str | None = None
        self._ask()

    def poll(self) -> list[UnbrokenSound]:
        """See Sound."""
        pieces = []
        if self._opening is not None:
            pieces = self._opening.read()
            if time.monotonic() - self._opening.progress_s < SILENT_S:
                self.trouble = None
                return pieces
        if time.monotonic() - self._asked_s > ASK_S:
            pieces += self._ask()
        return pieces

    def close(self) -> None:
        """See Sound."""
        if self._opening is not None:
            self._opening.ring.close()
            self._opening = None

    def _ask(self) -> list[UnbrokenSound]:
        """Ask for the ring anew; returns what was left of the old one."""
        self._asked_s = time.monotonic()
        try:
            ring = open_shared(self._path, self._selector, purpose=self._purpose)
        except StethosError as error:
            self.trouble = str(error)
            return []
        if ring is None:
            self.trouble = "the service has stopped"
            return []
        opening = self._opening
        if opening is not None and os.fstat(ring.fd).st_ino == os.fstat(opening.ring.fd).st_ino:
            ring.close()
            self.trouble = "the service gets no samples"
            return []
        rest = [] if opening is None else opening.end()
        self.close()
        self._opening = _Opening(ring, backlog=opening is not None)
        self.form, self.trouble = ring.format, None
        return rest


class OwnSound:
    """Sound from a microphone that this process opens."""

    def __init__(self, selector: str, *, rate_hz: int | None, channel: int | None) -> None:
        self._microphone = Microphone(selector, wanted_rate_hz=RATE_HZ, rate_hz=rate_hz, ring_s=10.0, says_trouble=False)
        if channel is not None:  # a device that converts is opened with as many channels as are tapped
            self._microphone.tap(channel=channel, sample_rate_hz=RATE_HZ).close()
        self._opening: _Opening | None = None
        self.form: RingFormat | None = None
        self.trouble: str | None = None

    def poll(self) -> list[UnbrokenSound]:
        """See Sound."""
        self._microphone.poll()
        trouble, ring = self._microphone.trouble, self._microphone.ring
        self.trouble = None if trouble is None else f"{trouble.reason}: {trouble.detail}"
        rest: list[UnbrokenSound] = []
        if self._opening is not None and self._opening.ring is not ring:
            rest = self._opening.end()
            self._opening = None
        if ring is not None and self._opening is None:
            self._opening = _Opening(ring, backlog=True)
            self.form = ring.format
        return rest + (self._opening.read() if self._opening is not None else [])

    def close(self) -> None:
        """See Sound."""
        self._microphone.close()


class Told:
    """Open sound that says when it stays away and when it is back."""

    def __init__(self, sound: Sound, form: RingFormat) -> None:
        self._sound = sound
        self._form = form
        self.trouble: str | None = None

    def poll(self) -> list[UnbrokenSound]:
        """See Sound; SourceError where it comes back in another format."""
        pieces = self._sound.poll()
        if self._sound.form is not None and self._sound.form[:3] != self._form[:3]:
            raise SourceError(f"the microphone came back with another format, {self._sound.form}; start again")
        if self._sound.trouble != self.trouble:
            self.trouble = self._sound.trouble
            log.warning("warning: %s", "sound again" if self.trouble is None else f"nothing is heard, waiting: {self.trouble}")
        return pieces


@contextmanager
def open_sound(
    selector: str, control: Path, *, purpose: Purpose, rate_hz: int | None = None, channel: int | None = None
) -> Iterator[tuple[Told, RingFormat]]:
    """The sound of a microphone and its format, open; SourceError says why there is none."""
    held = find_shared(shared_microphones(control), selector)
    sound: Sound = (
        OwnSound(selector, rate_hz=rate_hz, channel=channel)
        if held is None
        else SharedSound(control, held.selector, purpose=purpose)
    )
    try:
        until_s = time.monotonic() + OPEN_S
        while sound.form is None:
            sound.poll()
            if sound.trouble is not None or time.monotonic() > until_s:
                raise SourceError(f"microphone {selector}: {sound.trouble or 'does not open'}")
            time.sleep(POLL_S)
        if held is not None:
            log.info("microphone %s: %s, lent by the service", selector, held.words)
        if channel is not None and channel > sound.form.n_channels:
            raise SourceError(f"microphone {selector}: channel must be in 1..{sound.form.n_channels}, got {channel}")
        yield Told(sound, sound.form), sound.form
    finally:
        sound.close()
