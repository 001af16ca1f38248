"""Detect gaps in a device's sound from arrival times.

PortAudio reports that it dropped frames but not how many, and some devices silently drop frames when they stall. Frames after a
loss arrive later than their numbers imply. A single late arrival proves nothing, so frames are held back for SETTLE_S, and the
earliest arrival among them decides.
"""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from monitor.audio.ring import Chunk, Reader, Ring

SETTLE_S = 0.3
STALL_S = 0.15  # an arrival this much later than usual triggers a check
LOST_S = 0.03  # a persistent delay of this much means that frames are missing
WINDOW_S = 10.0  # the usual arrival is the earliest in this period, because clocks drift


class UnbrokenSound(NamedTuple):
    """Consecutive frames."""

    frame: int  # the first frame's number, counted from the opening of the device
    n_frames: int
    data: bytes
    origin_s: float  # CLOCK_MONOTONIC of frame 0 implied by this run; frame f is at origin_s + f / rate
    arrived_s: float  # CLOCK_MONOTONIC
    begins: bool  # starts a run that is positioned by the clock: the first run, and each run after lost frames


class GapDetector:
    """Split the chunks of one opening of the device into unbroken runs."""

    def __init__(self, *, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._held: list[Chunk] = []
        self._begins = True  # the held chunks are known to begin a run
        self._settling = True
        self._usual: float | None = None  # origin of the current run
        self._recent = [float("inf"), float("inf")]  # earliest origin in the previous and the current window
        self._window_ends_s = 0.0
        self.overruns = 0  # reported by PortAudio, overwritten before they were read, or stalls that lost frames
        self.lost_frames = 0  # at the device's rate

    def push(self, chunks: Iterable[Chunk]) -> list[UnbrokenSound]:
        """Add chunks. Return the sound whose position is now certain, including chunks held back earlier."""
        sounds: list[UnbrokenSound] = []
        for chunk in chunks:
            if chunk.n_overwritten:
                self.overruns += 1
                self.lost_frames += chunk.n_overwritten
            if chunk.record.overrun and chunk.record.frame:
                sounds += self.release()
                self._settling = self._begins = True
            elif not self._settling and self._usual is not None and self._origin_s(chunk) > self._usual + STALL_S:
                self._settling = True
            if not self._settling:
                sounds.append(self._sound(chunk, begins=False))
                continue
            self._held.append(chunk)
            if chunk.record.time_ns - self._held[0].record.time_ns >= SETTLE_S * 1e9:
                sounds += self.release()
        return sounds

    def release(self) -> list[UnbrokenSound]:
        """Resolve and return the chunks held back, because they have settled or nothing more will arrive."""
        if not self._held:
            return []
        origin_s = min(map(self._origin_s, self._held))
        if self._usual is not None and (self._begins or origin_s > self._usual + LOST_S):
            self._begins = True
            self.overruns += 1
            self.lost_frames += max(1, round((origin_s - self._usual) * self._rate_hz))
        if self._begins:
            self._usual = origin_s
            self._recent = [float("inf"), origin_s]
        held, begins = self._held, self._begins
        self._held, self._begins, self._settling = [], False, False
        return [self._sound(chunk, begins=begins and chunk is held[0]) for chunk in held]

    def _sound(self, chunk: Chunk, *, begins: bool) -> UnbrokenSound:
        record, arrived_s = chunk.record, chunk.record.time_ns * 1e-9
        if arrived_s >= self._window_ends_s:
            self._window_ends_s = arrived_s + WINDOW_S
            self._recent = [self._recent[1], float("inf")]
        self._recent[1] = min(self._recent[1], self._origin_s(chunk))
        self._usual = min(self._recent)
        return UnbrokenSound(record.frame, record.n_frames, chunk.data, self._usual, arrived_s, begins)

    def _origin_s(self, chunk: Chunk) -> float:
        """When frame 0 would have arrived, assuming that this chunk was not delayed."""
        return chunk.record.time_ns * 1e-9 - (chunk.record.frame + chunk.record.n_frames) / self._rate_hz


class SoundReader:
    """Read a ring as unbroken runs, starting at the oldest buffered frame (`backlog`) or at the next write."""

    def __init__(self, ring: Ring, *, backlog: bool) -> None:
        self.ring = ring
        self._reader = Reader(ring, backlog=backlog)
        self.gaps = GapDetector(rate_hz=ring.format.rate_hz)
        self.n_frames = 0  # read so far, including those held back

    def read(self, *, max_chunks: int | None = None) -> list[UnbrokenSound]:
        """The sound since the last call, from at most `max_chunks` writes."""
        chunks = list(islice(self._reader.read(), max_chunks))
        self.n_frames += sum(chunk.record.n_frames for chunk in chunks)
        return self.gaps.push(chunks)

    def release(self) -> list[UnbrokenSound]:
        """Return the sound held back, because nothing more will arrive."""
        return self.gaps.release()
