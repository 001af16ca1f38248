"""A self-healing microphone: opened in a separate process, monitored for progress, and reopened after every failure."""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone

from monitor.audio.capture import Request, channels_of
from monitor.audio.capture_process import CaptureProcess
from monitor.audio.channel_reader import ChannelReader
from monitor.audio.devices import Device, Reason, Unavailable, is_unplugged
from monitor.audio.gaps import SoundReader, UnbrokenSound
from monitor.audio.ring import Ring

log = logging.getLogger(__name__)
FROZEN_S = 3.0  # maximum time without samples from a running stream
OPEN_S, OPEN_MAX_S = 4.0, 12.0  # time limit for opening the device, raised after each timeout for slow computers
RETRY_S, RETRY_MAX_S = 0.5, 3.0
REAP_S = 2.0  # a killed process that takes longer than this to end is reported


@dataclass(frozen=True)
class Trouble:
    """Why there is no sound."""

    reason: Reason
    detail: str  # one line
    since: datetime  # UTC, when the last sample arrived


@dataclass(frozen=True)
class MicrophoneCounts:
    """Totals since the start."""

    overruns: int = 0
    lost_frames: int = 0  # at the device's rate; time between two openings is not counted
    restarts: int = 0
    faults: int = 0  # unexpected exceptions


class Microphone:
    """One device, opened once for any number of readers. All calls must come from one thread; only `close` waits.

    `selector` has the syntax described in configs/monitor.yaml. The device is opened at `rate_hz` if given, else at
    `wanted_rate_hz` if the device supports it. Readers resample to their own rates. The `sample_format` int32 stores 16-bit
    and 24-bit samples without loss. There is at most one capture process per device: a new one starts only after the previous
    one has been reaped. `unreaped` is the process that an earlier `Microphone` of this device has left. The start and end of
    trouble are logged, unless `logs_trouble` is false because the caller reports it. A watchdog can check `advanced()`.
    """

    def __init__(
        self,
        selector: str,
        *,
        wanted_rate_hz: int,
        rate_hz: int | None = None,
        sample_format: str = "int32",
        ring_s: float = 10.0,
        logs_trouble: bool = True,
        unreaped: CaptureProcess | None = None,
        launch: Callable[[], CaptureProcess] = CaptureProcess,
    ) -> None:
        self.selector = selector
        self._logs_trouble = logs_trouble
        self._launch = launch
        self._request = Request(selector, wanted_rate_hz, rate_hz, 1, sample_format, ring_s, -1)
        self._readers: list[ChannelReader] = []
        self._process: CaptureProcess | None = None
        self._killed = unreaped
        self._killed_s = time.monotonic()
        self._reports_killed = False
        self._sound: SoundReader | None = None
        self._past = MicrophoneCounts()  # totals of earlier openings
        self._n_starts = self._n_faults = self._n_polls = 0
        self._fault: str | None = None
        self._retry_s = RETRY_S
        self._retry_at_s = 0.0
        self._open_s = OPEN_S
        self._progress_s = 0.0
        self._last_sample_at = datetime.now(timezone.utc)
        self.trouble: Trouble | None = None  # None while samples arrive, and at the start until the first attempt has failed
        self.opened: Device | None = None
        self.ring: Ring | None = None  # replaced each time the device is opened
        if selector.startswith("index:"):
            log.warning(
                "microphone %s: an index can change with plugging and booting; `monitor devices` shows a stable name",
                selector,
            )

    @property
    def device(self) -> str | None:
        """The open device and its format as text; None while no device is open."""
        if self.opened is None or self.ring is None:
            return None
        form = self.ring.format
        channels = "1 channel" if form.n_channels == 1 else f"{form.n_channels} channels"
        return f"{self.opened.name}, {form.rate_hz} Hz, {channels}, {form.sample_format}"

    @property
    def pid(self) -> int | None:
        """The id of the capture process and of its process group; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def has_sound(self) -> bool:
        """Whether samples have arrived since the device was opened."""
        return self._sound is not None and self._sound.n_frames > 0

    @property
    def counts(self) -> MicrophoneCounts:
        """Totals since the start."""
        overruns, lost_frames = self._past.overruns, self._past.lost_frames
        if self._sound is not None:
            overruns, lost_frames = overruns + self._sound.gaps.overruns, lost_frames + self._sound.gaps.lost_frames
        return MicrophoneCounts(overruns, lost_frames, max(0, self._n_starts - 1), self._n_faults)

    def advanced(self) -> int:
        """The number of completed polls, with or without sound."""
        return self._n_polls

    def add_reader(self, *, channel: int | None, sample_rate_hz: int) -> ChannelReader:
        """Add a reader for one channel, counted from 1, or for the mean of all channels (None)."""
        reader = ChannelReader(channel=channel, sample_rate_hz=sample_rate_hz)
        self._readers.append(reader)
        wanted = 1 if channel is None else max(2, channel)  # opened with one channel, a sound server mixes left and right
        self._request = self._request._replace(n_channels=max(self._request.n_channels, wanted))
        if self.opened is not None and self.ring is not None:
            if channels_of(self.opened, self._request.n_channels) > self.ring.format.n_channels:
                self._stop()  # it will be reopened with more channels
            else:
                reader.open(self.ring.format)
        return reader

    def poll(self) -> None:
        """Read pending samples; open or reopen the device if needed. Call this at least every 0.5 s."""
        now_s = time.monotonic()
        self._reap(now_s)
        self._readers = [reader for reader in self._readers if not reader.closed]
        try:
            if self._process is None:
                self._start(now_s)
            else:
                self._watch(self._process, now_s)
        except Unavailable as error:
            self._fail(error, now_s)
        except Exception as error:  # noqa: BLE001 (a fault of one device must not reach the others; logged there)
            self._count_fault(error)
            self._fail(Unavailable("failed", f"unexpected error: {error!r}"), now_s)
        self._n_polls += 1

    def set_clocks(self, utc_s: float, *, monotonic_s: float, synced: bool) -> None:
        """Align the readers' timelines with the wall clock. Call this about once a second."""
        readers = [reader for reader in self._readers if not reader.closed]
        steps = [reader.timeline.set_utc(utc_s, monotonic_s=monotonic_s, synced=synced) for reader in readers]
        step_s = next((step for step in steps if step is not None), None)
        if step_s is not None:
            log.warning("microphone %s: the system clock was set by %+.1f s; later timestamps follow it", self.selector, step_s)

    def close(self, *, timeout_s: float = 1.0) -> CaptureProcess | None:
        """Stop capturing and wait for the killed process, at most that long. Returns it if it has not ended."""
        self._stop()
        if self._killed is not None:
            self._killed.wait(timeout_s)
        self._reap(time.monotonic())
        return self._killed

    def _reap(self, now_s: float) -> None:
        if self._killed is None or not self._killed.is_gone():
            return
        if self._reports_killed:
            log.info("microphone %s: the killed capture process ended after %.0f s", self.selector, now_s - self._killed_s)
        self._killed = None
        self._reports_killed = False

    def _start(self, now_s: float) -> None:
        if now_s < self._retry_at_s:
            return
        if self._killed is not None:
            self._check_killed(self._killed, now_s)
            return
        if is_unplugged(self.selector):
            self._retry_s = RETRY_S  # this check is cheap, so there is no backoff
            raise Unavailable("absent", "not plugged in")
        try:
            self._process = self._launch()
            self._process.request(self._request)
        except OSError as error:  # for example, out of memory
            raise Unavailable("failed", f"cannot start the capture process: {error}") from error
        self._n_starts += 1
        self._progress_s = now_s

    def _check_killed(self, killed: CaptureProcess, now_s: float) -> None:
        """Raise Unavailable if the killed process is overdue. No other process is started until it has ended."""
        if now_s - self._killed_s < REAP_S:
            return
        detail = f"capture process {killed.pid} does not exit after SIGKILL: its audio driver hangs; replug the device or reboot"
        if not self._reports_killed:
            self._reports_killed = True
            log.error("microphone %s: %s", self.selector, detail)
        raise Unavailable("frozen", detail)

    def _watch(self, process: CaptureProcess, now_s: float) -> None:
        try:
            opened = process.opened()
            if opened is not None:
                self._open(*opened)
                self._progress_s = now_s
        finally:  # samples that arrived before a failure are valid
            self._read(now_s)
        waited_s = now_s - self._progress_s
        if self.ring is None and waited_s > self._open_s:
            self._open_s = min(self._open_s + 2.0, OPEN_MAX_S)
            raise Unavailable("frozen", f"did not open within {waited_s:.0f} s")
        if self.ring is not None and waited_s > FROZEN_S:
            raise Unavailable("frozen", f"{self.device}: no samples for {waited_s:.0f} s")

    def _open(self, device: Device, ring: Ring) -> None:
        self.opened, self.ring = device, ring
        self._open_s = OPEN_S
        self._sound = SoundReader(ring, backlog=True)
        for reader in self._readers:
            reader.open(ring.format)
        if self.trouble is None:
            log.info("microphone %s: %s", self.selector, self.device)

    def _read(self, now_s: float) -> None:
        if self._sound is None:
            return
        n_before = self._sound.n_frames
        sounds = self._sound.read()
        if self._sound.n_frames > n_before:
            self._progress_s = now_s
        self._distribute(sounds)

    def _distribute(self, sounds: list[UnbrokenSound]) -> None:
        for reader in self._readers:
            reader.push(*sounds)
        if sounds:
            self._last_sample_at = datetime.now(timezone.utc)
            self._retry_s = RETRY_S
            if self.trouble is not None:
                if self._logs_trouble:
                    lost_s = (self._last_sample_at - self.trouble.since).total_seconds()
                    log.info("microphone %s: recovered after %.1f s without samples: %s", self.selector, lost_s, self.device)
                self.trouble = None

    def _fail(self, error: Unavailable, now_s: float) -> None:
        self._stop()
        self._retry_at_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)
        if self._logs_trouble and (self.trouble is None or self.trouble.reason != error.reason):
            log.warning("microphone %s: %s: %s", self.selector, error.reason, error)
        since = self._last_sample_at if self.trouble is None else self.trouble.since
        self.trouble = Trouble(error.reason, str(error), since)

    def _stop(self) -> None:
        """Kill the process and release the ring. An unexpected error is counted, so that the next start can follow."""
        process, sound, ring = self._process, self._sound, self.ring
        if process is not None:
            self._killed, self._killed_s = process, time.monotonic()
        try:
            with ExitStack() as stack:  # from the last to the first
                if ring is not None:
                    stack.callback(ring.close)
                if sound is not None:
                    stack.callback(self._release, sound)
                if process is not None:
                    stack.callback(process.kill)
        except Exception as error:  # noqa: BLE001 (logged there)
            self._count_fault(error)
        finally:
            self._process = self._sound = self.opened = self.ring = None

    def _release(self, sound: SoundReader) -> None:
        """Distribute the sound held back."""
        rest = sound.release()
        self._past = self.counts
        self._sound = None
        self._distribute(rest)

    def _count_fault(self, error: Exception) -> None:
        """Count an unexpected error. The same traceback is logged once."""
        self._n_faults += 1
        if self._fault != repr(error):
            self._fault = repr(error)
            log.error("microphone %s: unexpected error", self.selector, exc_info=error)
