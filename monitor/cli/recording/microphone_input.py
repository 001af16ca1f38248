"""Microphone input for the tools: shared by the service if it has the microphone open, else opened by the tool."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from monitor.audio.gaps import SoundReader, UnbrokenSound
from monitor.audio.microphone import Microphone
from monitor.audio.ring import SoundFormat
from monitor.daemon.control.shared_microphone import Purpose, SoundStream, find_shared, open_shared, shared_microphones
from monitor.daemon.control.socket import REFUSED
from monitor.errors import SourceError, StethosError

log = logging.getLogger(__name__)
RATE_HZ = 48_000  # the native rate of most devices; others are opened at a rate that they support
SILENT_S = 2.0  # time without samples from the service that counts as trouble
RETRY_S = 1.0
POLL_S = 0.1
OPEN_S = 15.0


class _Input(Protocol):
    """Sound in the device's own format. `poll` is called about ten times a second and never blocks."""

    form: SoundFormat | None  # None until it is open
    trouble: str | None  # why there is no sound

    def poll(self) -> list[UnbrokenSound]:
        """The sound since the last call. A part follows a gap if it `begins` or its frame is not the next one."""

    def close(self) -> None:
        """Release the microphone."""


class _SharedInput:
    """Sound shared by the service; reconnects when the service is restarted or reopens the device."""

    def __init__(self, path: Path, selector: str, *, purpose: Purpose) -> None:
        self._path = path
        self._selector = selector
        self._purpose = purpose
        self._stream: SoundStream | None = None
        self._requested_s = self._progress_s = 0.0
        self.form: SoundFormat | None = None
        self.trouble: str | None = None
        self._connect()

    def poll(self) -> list[UnbrokenSound]:
        """See _Input."""
        if self._stream is None:
            if time.monotonic() - self._requested_s > RETRY_S:
                self._connect()
            return []
        sounds = self._stream.read()
        if sounds:
            self._progress_s = time.monotonic()
            self.trouble = None
        elif time.monotonic() - self._progress_s > SILENT_S:
            self.trouble = "the service receives no samples"
        if self._stream.ended:
            self.close()
        return sounds

    def close(self) -> None:
        """See _Input."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _connect(self) -> None:
        self._requested_s = self._progress_s = time.monotonic()
        try:
            self._stream = open_shared(self._path, self._selector, purpose=self._purpose)
        except StethosError as error:
            self.trouble = str(error).removeprefix(REFUSED)
            return
        if self._stream is None:
            self.trouble = "the service has stopped"
        else:
            self.form = self._stream.form


class _OwnInput:
    """Sound of a microphone that this process opens."""

    def __init__(self, selector: str, *, rate_hz: int | None, channel: int | None) -> None:
        self._microphone = Microphone(selector, wanted_rate_hz=RATE_HZ, rate_hz=rate_hz, logs_trouble=False)
        if channel is not None:  # a converting device is opened with as many channels as its readers need
            self._microphone.add_reader(channel=channel, sample_rate_hz=RATE_HZ).close()
        self._reader: SoundReader | None = None
        self.form: SoundFormat | None = None
        self.trouble: str | None = None

    def poll(self) -> list[UnbrokenSound]:
        """See _Input."""
        self._microphone.poll()
        trouble, ring = self._microphone.trouble, self._microphone.ring
        self.trouble = None if trouble is None else f"{trouble.reason}: {trouble.detail}"
        rest: list[UnbrokenSound] = []
        if self._reader is not None and self._reader.ring is not ring:
            rest = self._reader.release()
            self._reader = None
        if ring is not None and self._reader is None:
            self._reader = SoundReader(ring, backlog=True)
            self.form = ring.format
        return rest + (self._reader.read() if self._reader is not None else [])

    def close(self) -> None:
        """See _Input."""
        self._microphone.close()


class MicrophoneInput:
    """Sound in a fixed format. Interruptions are logged."""

    def __init__(self, source: _Input, form: SoundFormat) -> None:
        self.form = form
        self.trouble: str | None = None  # why there is no sound
        self._source = source

    def poll(self) -> list[UnbrokenSound]:
        """See _Input. SourceError if the device comes back with a different format."""
        sounds = self._source.poll()
        if self._source.form is not None and self._source.form != self.form:
            raise SourceError(f"the microphone's format changed from {self.form} to {self._source.form}; start again")
        if self._source.trouble != self.trouble:
            self.trouble = self._source.trouble
            log.warning("warning: %s", "sound resumed" if self.trouble is None else f"no sound, waiting: {self.trouble}")
        return sounds


@contextmanager
def open_microphone(
    selector: str, control: Path, *, purpose: Purpose, rate_hz: int | None = None, channel: int | None = None
) -> Iterator[MicrophoneInput]:
    """Open a microphone; SourceError with the reason if it cannot be opened."""
    shared = find_shared(shared_microphones(control), selector)
    source: _Input = (
        _OwnInput(selector, rate_hz=rate_hz, channel=channel)
        if shared is None
        else _SharedInput(control, shared.selector, purpose=purpose)
    )
    try:
        until_s = time.monotonic() + OPEN_S
        while source.form is None:
            source.poll()
            if source.trouble is not None or time.monotonic() > until_s:
                raise SourceError(f"microphone {selector}: {source.trouble or 'does not open'}")
            time.sleep(POLL_S)
        if shared is not None:
            log.info("microphone %s: %s, shared by the service", selector, shared.words)
        if channel is not None and channel > source.form.n_channels:
            raise SourceError(f"microphone {selector}: channel must be in 1..{source.form.n_channels}, got {channel}")
        yield MicrophoneInput(source, source.form)
    finally:
        source.close()
