"""A microphone that stays up: opened in a process of its own, watched by progress, restarted for ever."""

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from monitor.audio.capture import Request, channels_of
from monitor.audio.capture_process import CaptureProcess
from monitor.audio.channel_reader import ChannelReader
from monitor.audio.devices import Device, Reason, Unavailable, is_unplugged
from monitor.audio.gaps import GapDetector, UnbrokenSound
from monitor.audio.ring import Reader, Ring
from monitor.clock import clock_synced

log = logging.getLogger(__name__)
FROZEN_S = 3.0  # without a sample, although the stream says that it runs
OPEN_S, OPEN_MOST_S = 4.0, 12.0  # for opening; longer after each attempt that took too long, for slow computers
RETRY_S, RETRY_MOST_S = 0.5, 3.0
CLOCK_EVERY_S = 1.0
SYNCED_EVERY_S = 60.0


@dataclass(frozen=True)
class Trouble:
    """Why nothing is heard."""

    reason: Reason
    detail: str  # one line
    since: datetime  # UTC, when the last sample came


@dataclass(frozen=True)
class MicrophoneCounts:
    """What went wrong since the start."""

    overruns: int = 0
    lost_frames: int = 0  # at the device's rate; not those between two openings
    restarts: int = 0


class Microphone:
    """One device, opened once for any number of taps. All calls come from one thread, and none waits.

    `selector` as in configs/monitor.yaml. `wanted_rate_hz` is asked of the device where `rate_hz` does not insist on another;
    what the device cannot do is resampled. `sample_format` int32 loses nothing of 16 and 24 bits. Its trouble is logged when it
    comes and goes, unless whoever polls says it (`says_trouble`).
    """

    def __init__(
        self,
        selector: str,
        *,
        wanted_rate_hz: int,
        rate_hz: int | None = None,
        sample_format: str = "int32",
        ring_s: float = 30.0,
        says_trouble: bool = True,
    ) -> None:
        self.selector = selector
        self._says_trouble = says_trouble
        self._request = Request(selector, wanted_rate_hz, rate_hz, 1, sample_format, ring_s, -1)
        self._taps: list[ChannelReader] = []
        self._process: CaptureProcess | None = None
        self._killed: list[CaptureProcess] = []
        self._reader: Reader | None = None
        self._runs: GapDetector | None = None
        self._past = MicrophoneCounts()  # of openings that are over
        self._n_starts = 0
        self._retry_s = RETRY_S
        self._retry_at_s = 0.0
        self._open_s = OPEN_S
        self._progress_s = 0.0
        self._heard_at = datetime.now(timezone.utc)
        self._clock_at_s = self._synced_at_s = 0.0
        self._synced = clock_synced()
        self.trouble: Trouble | None = None  # None while samples flow, and at the start until the first attempt has failed
        self.opened: Device | None = None
        self.ring: Ring | None = None  # another one after each opening
        if selector.startswith("index:"):
            log.warning("microphone %s: an index changes with every plug and boot; `monitor devices` shows what stays", selector)

    @property
    def device(self) -> str | None:
        """The opened device in words."""
        if self.opened is None or self.ring is None:
            return None
        form = self.ring.format
        channels = "1 channel" if form.n_channels == 1 else f"{form.n_channels} channels"
        return f"{self.opened.name}, {form.rate_hz} Hz, {channels}, {form.sample_format}"

    @property
    def counts(self) -> MicrophoneCounts:
        """What went wrong since the start."""
        return self._counts()

    def tap(self, *, channel: int | None, sample_rate_hz: int) -> ChannelReader:
        """One more listener: `channel` counts from 1, None is the mean of all."""
        tap = ChannelReader(channel=channel, sample_rate_hz=sample_rate_hz)
        self._taps.append(tap)
        wanted = 1 if channel is None else max(2, channel)  # one of a pair, not a sound server's mean of both
        self._request = self._request._replace(n_channels=max(self._request.n_channels, wanted))
        if self.opened is not None and self.ring is not None:
            if channels_of(self.opened, self._request.n_channels) > self.ring.format.n_channels:
                self._stop()  # opened anew with more channels
            else:
                tap.open(self.ring.format)
        return tap

    def poll(self) -> None:
        """Read what has arrived and see to it that more will. About every 100 ms."""
        now_s = time.monotonic()
        self._killed = [process for process in self._killed if not process.is_gone()]
        self._taps = [tap for tap in self._taps if not tap.closed]
        self._tell_time(now_s)
        try:
            if self._process is None:
                self._start(now_s)
            else:
                self._attend(self._process, now_s)
        except Unavailable as error:
            self._fail(error, now_s)

    def close(self) -> None:
        """Stop capturing; no process is left behind."""
        self._stop()
        for process in self._killed:
            process.wait(1.0)

    def _start(self, now_s: float) -> None:
        if now_s < self._retry_at_s:
            return
        if is_unplugged(self.selector):
            self._retry_s = RETRY_S  # looking costs nothing
            raise Unavailable("absent", f"no microphone is {self.selector}")
        try:
            self._process = CaptureProcess(self._request)
        except OSError as error:  # no memory, say: better luck next time
            raise Unavailable("failed", f"the capture process cannot be started: {error}") from error
        self._n_starts += 1
        self._progress_s = now_s

    def _attend(self, process: CaptureProcess, now_s: float) -> None:
        try:
            opened = process.opened()
            if opened is not None:
                self._open(*opened)
                self._progress_s = now_s
        finally:  # what had arrived before it failed was heard
            self._read(now_s)
        waited_s = now_s - self._progress_s
        if self.ring is None and waited_s > self._open_s:
            self._open_s = min(self._open_s + 2.0, OPEN_MOST_S)
            raise Unavailable("frozen", f"{self.selector} did not open within {waited_s:.0f} s")
        if self.ring is not None and waited_s > FROZEN_S:
            raise Unavailable("frozen", f"{self.device}: no samples for {waited_s:.0f} s")

    def _open(self, device: Device, ring: Ring) -> None:
        self.opened, self.ring = device, ring
        self._open_s = OPEN_S
        self._reader = Reader(ring, backlog=True)
        self._runs = GapDetector(rate_hz=ring.format.rate_hz)
        for tap in self._taps:
            tap.open(ring.format)
        if self.trouble is None:
            log.info("microphone %s: %s", self.selector, self.device)

    def _read(self, now_s: float) -> None:
        if self._reader is None or self._runs is None:
            return
        chunks = list(self._reader.read())
        if chunks:
            self._progress_s = now_s
        self._share(self._runs.push(chunks))

    def _share(self, pieces: list[UnbrokenSound]) -> None:
        for piece in pieces:
            for tap in self._taps:
                tap.push(piece)
        if pieces:
            self._heard_at = datetime.now(timezone.utc)
            self._retry_s = RETRY_S
            if self.trouble is not None:
                if self._says_trouble:
                    deaf_s = (self._heard_at - self.trouble.since).total_seconds()
                    log.info("microphone %s: samples flow again after %.1f s: %s", self.selector, deaf_s, self.device)
                self.trouble = None

    def _fail(self, error: Unavailable, now_s: float) -> None:
        self._stop()
        self._retry_at_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, RETRY_MOST_S)
        if self._says_trouble and (self.trouble is None or self.trouble.reason != error.reason):
            log.warning("microphone %s: %s: %s", self.selector, error.reason, error)
        since = self._heard_at if self.trouble is None else self.trouble.since
        self.trouble = Trouble(error.reason, str(error), since)

    def _stop(self) -> None:
        if self._runs is not None:
            self._share(self._runs.release())
            self._past = self._counts()
        if self._process is not None:
            self._process.kill()
            self._killed.append(self._process)
        if self.ring is not None:
            self.ring.close()
        self._process = self._reader = self._runs = self.opened = self.ring = None

    def _counts(self) -> MicrophoneCounts:
        overruns, lost_frames = self._past.overruns, self._past.lost_frames
        if self._runs is not None:
            overruns, lost_frames = overruns + self._runs.overruns, lost_frames + self._runs.lost_frames
        return MicrophoneCounts(overruns, lost_frames, max(0, self._n_starts - 1))

    def _tell_time(self, now_s: float) -> None:
        """Keep the taps' timelines on the wall clock."""
        if now_s < self._clock_at_s:
            return
        self._clock_at_s = now_s + CLOCK_EVERY_S
        if now_s >= self._synced_at_s:
            self._synced_at_s = now_s + SYNCED_EVERY_S
            self._synced = clock_synced()
        utc_s = time.time()
        steps = [tap.timeline.set_utc(utc_s, monotonic_s=now_s, synced=self._synced) for tap in self._taps]
        step_s = next((step for step in steps if step is not None), None)
        if step_s is not None:
            log.warning("microphone %s: the clock was set by %+.1f s; later times follow it", self.selector, step_s)
