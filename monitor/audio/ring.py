"""Sound in shared memory: one process writes it, any number read it, and nobody waits for anybody.

The memfd holds 32-bit numbers in the machine's order, then the frames:

    header   magic, rate_hz, n_channels, format, n_frames, and the number of the newest note
    notes    N_NOTES x (number, n_frames, overrun, frame, frame >> 32, time_ns, time_ns >> 32, number)
    frames   n_frames x n_channels samples; frame f lies at f % n_frames

Each write leaves a note. 64-bit numbers are torn on 32-bit ARM, so a note begins and ends with its number: the writer writes from
front to back; a reader looks at the last word, then the others, then the first, and believes what two equal numbers
enclose. Python cannot ask for a memory barrier; between the words lie the hundreds of instructions of its interpreter.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from typing import NamedTuple

from monitor.errors import SourceError

SAMPLE_BYTES = {"int16": 2, "int24": 3, "int32": 4, "float32": 4}  # little-endian, as PortAudio gives them here
N_NOTES = 2048  # a power of two, since their numbers go round at 2**32
_FORMATS = tuple(SAMPLE_BYTES)
_MAGIC = 0x53544852
_WORD, _HEADER_WORDS, _NOTE_WORDS = 4, 16, 8
_NEWEST = 5  # this word of the header is the newest note's number
_FRAMES_AT = (_HEADER_WORDS + N_NOTES * _NOTE_WORDS) * _WORD
_MASK = 0xFFFFFFFF


class RingFormat(NamedTuple):
    """What a ring holds: interleaved samples, and how many frames (one sample of each channel) of them."""

    rate_hz: int
    n_channels: int
    sample_format: str  # a key of SAMPLE_BYTES
    n_frames: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.n_channels * SAMPLE_BYTES[self.sample_format]


class WriteRecord(NamedTuple):
    """What the writer says of one write."""

    frame: int  # of its first frame, counted since the opening
    n_frames: int
    time_ns: int  # CLOCK_MONOTONIC when they had arrived
    overrun: bool  # PortAudio lost some before these


class Chunk(NamedTuple):
    """The frames of one write, as a reader gets them."""

    note: WriteRecord
    data: bytes
    n_overwritten: int  # frames before these that were overwritten unread


class Ring:
    """The memory. `Ring.create` is the writer's side, `Ring.attach` a reader's."""

    def __init__(self, fd: int, form: RingFormat, *, writable: bool) -> None:
        self.fd = fd
        self.format = form
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, _size(form), prot=protection)
        self._words = memoryview(self._map)[:_FRAMES_AT].cast("I")
        self._frames = memoryview(self._map)[_FRAMES_AT:]
        self._n_bytes = form.n_frames * form.frame_bytes
        self._end = 0  # the writer's: frames written
        self._number = 0  # the writer's: its newest note

    @staticmethod
    def create(form: RingFormat, *, fd: int | None = None) -> "Ring":
        """An empty ring in a new memfd, or in the one given."""
        if fd is None:
            fd = new_ring_fd()
        os.ftruncate(fd, _size(form))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)  # whoever it is lent to
        ring = Ring(fd, form, writable=True)
        words = (form.rate_hz, form.n_channels, _FORMATS.index(form.sample_format), form.n_frames)
        for at, word in enumerate(words, start=1):
            ring._words[at] = word
        ring._words[0] = _MAGIC
        return ring

    @staticmethod
    def attach(fd: int) -> "Ring":
        """The ring that another process writes; `fd` then belongs to it."""
        size = os.fstat(fd).st_size
        if size < _FRAMES_AT:
            raise SourceError(f"ring: must have at least {_FRAMES_AT} bytes, got {size}")
        with mmap.mmap(fd, _FRAMES_AT, prot=mmap.PROT_READ) as header:
            magic, rate_hz, n_channels, code, n_frames = memoryview(header[: 5 * _WORD]).cast("I")
        if magic != _MAGIC or code >= len(_FORMATS):
            raise SourceError(f"ring: must begin with {_MAGIC:#x} and a known format, got {magic:#x} and {code}")
        form = RingFormat(rate_hz, n_channels, _FORMATS[code], n_frames)
        if size != _size(form):
            raise SourceError(f"ring: must have {_size(form)} bytes, got {size}")
        return Ring(fd, form, writable=False)

    def write(self, data: memoryview, *, time_ns: int, overrun: bool = False) -> None:
        """Append whole frames. Called in the audio callback: it copies and returns."""
        most = self.format.n_frames // 4 * self.format.frame_bytes
        for at in range(0, len(data), most):
            self._write_part(data[at : at + most], time_ns=time_ns, overrun=overrun and at == 0)

    def _write_part(self, data: memoryview, *, time_ns: int, overrun: bool) -> None:
        n_frames = len(data) // self.format.frame_bytes
        at = self._end % self.format.n_frames * self.format.frame_bytes
        n_first = min(len(data), self._n_bytes - at)
        self._frames[at : at + n_first] = data[:n_first]
        self._frames[: len(data) - n_first] = data[n_first:]
        self._number = number = (self._number + 1) & _MASK
        words, slot = self._words, _slot(number)
        words[slot] = number
        words[slot + 1] = n_frames
        words[slot + 2] = overrun
        words[slot + 3] = self._end & _MASK
        words[slot + 4] = self._end >> 32
        words[slot + 5] = time_ns & _MASK
        words[slot + 6] = time_ns >> 32
        words[slot + 7] = number
        self._end += n_frames
        words[_NEWEST] = number

    @property
    def newest(self) -> int:
        """The number of the newest note, modulo 2**32; 0 while there is none."""
        return self._words[_NEWEST]

    def note(self, number: int) -> WriteRecord | None:
        """A note by its number; None when it has been overwritten or is being written."""
        words, slot = self._words, _slot(number)
        last = words[slot + 7]
        n_frames, overrun, frame, frame_high, time, time_high = words[slot + 1 : slot + 7]
        if not number == last == words[slot]:
            return None
        return WriteRecord(frame | frame_high << 32, n_frames, time | time_high << 32, bool(overrun))

    def frames(self, note: WriteRecord) -> bytes | None:
        """A copy of the frames of a note; None when they have been overwritten, even if only while they were copied."""
        at = note.frame % self.format.n_frames * self.format.frame_bytes
        n_bytes = note.n_frames * self.format.frame_bytes
        n_first = min(n_bytes, self._n_bytes - at)
        data = bytes(self._frames[at : at + n_first]) + bytes(self._frames[: n_bytes - n_first])
        newest = self.note(self.newest)
        # What is being written now is not in a note yet; it is a quarter of the ring at most.
        if newest is None or newest.frame + newest.n_frames - note.frame > self.format.n_frames * 3 // 4:
            return None
        return data

    def close(self) -> None:
        """Give the memory and the file descriptor back."""
        self._words.release()
        self._frames.release()
        self._map.close()
        os.close(self.fd)


class Reader:
    """A reader with a position of its own: from the oldest frame still there (`backlog`), or from now on."""

    def __init__(self, ring: Ring, *, backlog: bool = False) -> None:
        self._ring = ring
        self._number = 0 if backlog else ring.newest  # the last note read
        self._frame: int | None = 0 if backlog else None  # the next frame expected

    def read(self) -> Iterator[Chunk]:
        """What has been written since, oldest first."""
        newest = self._ring.newest
        if (newest - self._number) & _MASK > N_NOTES:
            self._number = (newest - N_NOTES) & _MASK
        while self._number != newest:
            self._number = (self._number + 1) & _MASK
            note = self._ring.note(self._number)
            data = None if note is None else self._ring.frames(note)
            if note is None or data is None:
                continue
            n_overwritten = 0 if self._frame is None else note.frame - self._frame
            self._frame = note.frame + note.n_frames
            yield Chunk(note, data, n_overwritten)


def _size(form: RingFormat) -> int:
    return _FRAMES_AT + form.n_frames * form.frame_bytes


def _slot(number: int) -> int:
    return _HEADER_WORDS + number % N_NOTES * _NOTE_WORDS


def new_ring_fd() -> int:
    """Shared memory for a ring, whose size nobody can change later."""
    return os.memfd_create("stethos-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
