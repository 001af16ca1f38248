"""A lock-free ring buffer in shared memory, written by the capture process and read by its parent.

The memfd holds 32-bit numbers in native byte order, then the frames:

    header   magic, rate_hz, n_channels, format, n_frames, and the number of the newest record
    records  N_RECORDS x (number, n_frames, overrun, frame, frame >> 32, time_ns, time_ns >> 32, number)
    frames   n_frames x n_channels samples; frame f is at f % n_frames

Each write adds a record. 64-bit accesses can tear on 32-bit ARM, so a record begins and ends with its number. The writer fills
the record from front to back. A reader reads the last word, then the middle ones, then the first, and accepts the record if both
numbers are equal. Python has no memory barrier, but the interpreter executes hundreds of instructions between two words.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from typing import NamedTuple

from monitor.errors import SourceError

SAMPLE_BYTES = {"int16": 2, "int24": 3, "int32": 4, "float32": 4}  # little-endian, as on every supported processor
N_RECORDS = 2048  # a power of two, because record numbers wrap at 2**32
_FORMATS = tuple(SAMPLE_BYTES)
_MAGIC = 0x53544852
_WORD, _HEADER_WORDS, _RECORD_WORDS = 4, 16, 8
_NEWEST = 5  # index of the header word with the newest record's number
_FRAMES_AT = (_HEADER_WORDS + N_RECORDS * _RECORD_WORDS) * _WORD
_MASK = 0xFFFFFFFF


class SoundFormat(NamedTuple):
    """The format of interleaved samples; a frame is one sample of each channel."""

    rate_hz: int
    n_channels: int
    sample_format: str  # a key of SAMPLE_BYTES

    @property
    def frame_bytes(self) -> int:
        """Size of one frame in bytes."""
        return self.n_channels * SAMPLE_BYTES[self.sample_format]


class WriteRecord(NamedTuple):
    """One write."""

    frame: int  # the first frame's number, counted from the opening of the device
    n_frames: int
    time_ns: int  # CLOCK_MONOTONIC after the last frame arrived
    overrun: bool  # PortAudio dropped frames before these


class Chunk(NamedTuple):
    """The frames of one write, as read."""

    record: WriteRecord
    data: bytes
    n_overwritten: int  # preceding frames that were overwritten before they were read


class Ring:
    """The shared memory, mapped for writing (`Ring.create`) or read-only (`Ring.attach`)."""

    def __init__(self, fd: int, form: SoundFormat, n_frames: int, *, writable: bool) -> None:
        self.fd = fd
        self.format = form
        self.n_frames = n_frames
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, _size(form, n_frames), prot=protection)
        self._words = memoryview(self._map)[:_FRAMES_AT].cast("I")
        self._frames = memoryview(self._map)[_FRAMES_AT:]
        self._n_bytes = n_frames * form.frame_bytes
        self._end = 0  # writer only: frames written
        self._number = 0  # writer only: number of the newest record

    @staticmethod
    def create(form: SoundFormat, n_frames: int, *, fd: int | None = None, first_frame: int = 0, first_number: int = 0) -> "Ring":
        """Create an empty ring of `n_frames` in a new memfd or in `fd`. Frames and records are counted from the given numbers."""
        if fd is None:
            fd = new_ring_fd()
        os.ftruncate(fd, _size(form, n_frames))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)  # so that a reader cannot fault
        ring = Ring(fd, form, n_frames, writable=True)
        words = (form.rate_hz, form.n_channels, _FORMATS.index(form.sample_format), n_frames)
        for at, word in enumerate(words, start=1):
            ring._words[at] = word
        ring._end, ring._number = first_frame, first_number
        ring._words[_NEWEST] = first_number
        ring._words[0] = _MAGIC
        return ring

    @staticmethod
    def attach(fd: int) -> "Ring":
        """Attach to a ring that another process writes. Takes ownership of `fd`, even if it fails."""
        try:
            return Ring._attached(fd)
        except BaseException:
            os.close(fd)
            raise

    @staticmethod
    def _attached(fd: int) -> "Ring":
        size = os.fstat(fd).st_size
        if size < _FRAMES_AT:
            raise SourceError(f"ring: must have at least {_FRAMES_AT} bytes, got {size}")
        with mmap.mmap(fd, _FRAMES_AT, prot=mmap.PROT_READ) as header:
            magic, rate_hz, n_channels, code, n_frames = memoryview(header[: 5 * _WORD]).cast("I")
        if magic != _MAGIC or code >= len(_FORMATS):
            raise SourceError(f"ring: must begin with {_MAGIC:#x} and a known format, got {magic:#x} and {code}")
        form = SoundFormat(rate_hz, n_channels, _FORMATS[code])
        if size != _size(form, n_frames):
            raise SourceError(f"ring: must have {_size(form, n_frames)} bytes, got {size}")
        return Ring(fd, form, n_frames, writable=False)

    def write(self, data: memoryview, *, time_ns: int, overrun: bool = False) -> None:
        """Append whole frames. Called in the audio callback, so it only copies."""
        max_bytes = self.n_frames // 4 * self.format.frame_bytes
        for at in range(0, len(data), max_bytes):
            self._write_part(data[at : at + max_bytes], time_ns=time_ns, overrun=overrun and at == 0)

    def _write_part(self, data: memoryview, *, time_ns: int, overrun: bool) -> None:
        n_frames = len(data) // self.format.frame_bytes
        at = self._end % self.n_frames * self.format.frame_bytes
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
        """The number of the newest record, modulo 2**32; initially `first_number`."""
        return self._words[_NEWEST]

    def record(self, number: int) -> WriteRecord | None:
        """The record with this number; None if it has been overwritten or is being written."""
        words, slot = self._words, _slot(number)
        last = words[slot + 7]
        n_frames, overrun, frame, frame_high, time, time_high = words[slot + 1 : slot + 7]
        if not number == last == words[slot]:
            return None
        return WriteRecord(frame | frame_high << 32, n_frames, time | time_high << 32, bool(overrun))

    def frames(self, record: WriteRecord) -> bytes | None:
        """A copy of the frames of a record; None if they were overwritten before the copy was complete."""
        at = record.frame % self.n_frames * self.format.frame_bytes
        n_bytes = record.n_frames * self.format.frame_bytes
        n_first = min(n_bytes, self._n_bytes - at)
        data = bytes(self._frames[at : at + n_first]) + bytes(self._frames[: n_bytes - n_first])
        newest = self.record(self.newest)
        # A write in progress has no record yet and covers at most a quarter of the ring.
        if newest is None or newest.frame + newest.n_frames - record.frame > self.n_frames * 3 // 4:
            return None
        return data

    def close(self) -> None:
        """Release the memory and the file descriptor."""
        self._words.release()
        self._frames.release()
        self._map.close()
        os.close(self.fd)


class Reader:
    """An independent read position, starting at the oldest buffered frame (`backlog`) or at the next write."""

    def __init__(self, ring: Ring, *, backlog: bool = False) -> None:
        self._ring = ring
        self._number = 0 if backlog else ring.newest  # number of the last record read
        self._frame: int | None = 0 if backlog else None  # the next expected frame

    def read(self) -> Iterator[Chunk]:
        """The writes since the last call, oldest first."""
        newest = self._ring.newest
        if (newest - self._number) & _MASK > N_RECORDS:
            self._number = (newest - N_RECORDS) & _MASK
        while self._number != newest:
            self._number = (self._number + 1) & _MASK
            record = self._ring.record(self._number)
            data = None if record is None else self._ring.frames(record)
            if record is None or data is None:
                continue
            n_overwritten = 0 if self._frame is None else record.frame - self._frame
            self._frame = record.frame + record.n_frames
            yield Chunk(record, data, n_overwritten)


def _size(form: SoundFormat, n_frames: int) -> int:
    return _FRAMES_AT + n_frames * form.frame_bytes


def _slot(number: int) -> int:
    return _HEADER_WORDS + number % N_RECORDS * _RECORD_WORDS


def new_ring_fd() -> int:
    """Create a memfd for a ring; it can be sealed against changes of its size."""
    return os.memfd_create("stethos-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
