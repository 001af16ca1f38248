"""Where sound from a device is unbroken, and when each such run began by the clock.

PortAudio says that it lost frames, not how many, and some devices lose them without a word when they stall. The clock knows:
the frames that come after arrive later than their number says. One late arrival proves nothing, so frames are held back for
SETTLE_S, and the earliest arrival among them counts.
"""

from collections.abc import Iterable
from typing import NamedTuple

from monitor.audio.ring import Chunk

SETTLE_S = 0.3
STALL_S = 0.15  # so much later than usual is looked into
LOST_S = 0.03  # so much later for good means that frames are missing
WINDOW_S = 10.0  # the usual arrival is the earliest of this long: clocks drift


class UnbrokenSound(NamedTuple):
    """Consecutive frames."""

    frame: int  # of its first frame, counted since the opening
    n_frames: int
    data: bytes
    origin_s: float  # CLOCK_MONOTONIC of the opening's frame 0 as this run has it: frames divided by the rate are added
    arrived_s: float  # CLOCK_MONOTONIC
    begins: bool  # a run whose place only the clock knows: the first, and one after frames lost by the device


class GapDetector:
    """Cut one opening's chunks into runs."""

    def __init__(self, *, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._held: list[Chunk] = []
        self._begins = True  # what is held begins a run for certain
        self._settling = True
        self._usual: float | None = None  # origin of the run now
        self._recent = [float("inf"), float("inf")]  # earliest origin in the last window and in this one
        self._window_ends_s = 0.0
        self.overruns = 0  # what PortAudio reported, what readers missed, and stalls that lost frames
        self.lost_frames = 0  # at the device's rate

    def push(self, chunks: Iterable[Chunk]) -> list[UnbrokenSound]:
        """What can be said of these chunks and of those held back."""
        pieces: list[UnbrokenSound] = []
        for chunk in chunks:
            if chunk.n_overwritten:
                self.overruns += 1
                self.lost_frames += chunk.n_overwritten
            if chunk.note.overrun and chunk.note.frame:
                pieces += self.release()
                self._settling = self._begins = True
            elif not self._settling and self._usual is not None and self._origin_s(chunk) > self._usual + STALL_S:
                self._settling = True
            if not self._settling:
                pieces.append(self._piece(chunk, begins=False))
                continue
            self._held.append(chunk)
            if chunk.note.time_ns - self._held[0].note.time_ns >= SETTLE_S * 1e9:
                pieces += self.release()
        return pieces

    def release(self) -> list[UnbrokenSound]:
        """Decide about what is held back, because it has settled or nothing more will come."""
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
        return [self._piece(chunk, begins=begins and chunk is held[0]) for chunk in held]

    def _piece(self, chunk: Chunk, *, begins: bool) -> UnbrokenSound:
        note, arrived_s = chunk.note, chunk.note.time_ns * 1e-9
        if arrived_s >= self._window_ends_s:
            self._window_ends_s = arrived_s + WINDOW_S
            self._recent = [self._recent[1], float("inf")]
        self._recent[1] = min(self._recent[1], self._origin_s(chunk))
        self._usual = min(self._recent)
        return UnbrokenSound(note.frame, note.n_frames, chunk.data, self._usual, arrived_s, begins)

    def _origin_s(self, chunk: Chunk) -> float:
        """When frame 0 would have arrived, had this chunk come without delay."""
        return chunk.note.time_ns * 1e-9 - (chunk.note.frame + chunk.note.n_frames) / self._rate_hz
