"""The ring: readers get every write unchanged, or the number of frames that they missed."""

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.audio.pcm import mono, to_float
from monitor.audio.ring import N_RECORDS, Reader, Ring, SoundFormat, new_ring_fd
from monitor.errors import SourceError

N_FRAMES = 400
FORM = SoundFormat(rate_hz=16000, n_channels=2, sample_format="int32")
WRITER = """
import sys, time
from monitor.audio.ring import Ring, SoundFormat
ring = Ring.create(SoundFormat(16000, 2, "int32"), 4000, fd=int(sys.argv[1]))
written = 0
until = time.monotonic() + 1.5
while time.monotonic() < until:
    n = written % 37 + 1
    data = b"".join(word.to_bytes(4, "little") for frame in range(written, written + n) for word in (frame, ~frame & 0xFFFFFFFF))
    ring.write(memoryview(data), time_ns=time.monotonic_ns())
    written += n
print(written)
"""


def numbered(first: int, n: int) -> memoryview:
    """Frames that carry their own number."""
    numbers = np.arange(first, first + n, dtype=np.int64)
    return memoryview(np.stack((numbers, -numbers), axis=1).astype("<i4").tobytes())


@pytest.fixture
def ring() -> Iterator[Ring]:
    with closing(Ring.create(FORM, N_FRAMES)) as ring:
        yield ring


@given(st.lists(st.tuples(st.integers(1, 2 * N_FRAMES), st.booleans()), max_size=30))
def test_any_cuts_give_the_same_frames_or_a_gap_of_the_right_size(steps: list[tuple[int, bool]]) -> None:
    with closing(Ring.create(FORM, N_FRAMES)) as writer, closing(Ring.attach(os.dup(writer.fd))) as ours:
        reader = Reader(ours, backlog=True)
        written = expected = 0
        for n, then_read in [*steps, (1, True)]:
            writer.write(numbered(written, n), time_ns=written + n)
            written += n
            for chunk in reader.read() if then_read else ():
                assert chunk.record.frame == expected + chunk.n_overwritten
                expected = chunk.record.frame + chunk.record.n_frames
                assert chunk.data == bytes(numbered(chunk.record.frame, chunk.record.n_frames))
            assert not then_read or expected == written


@given(st.lists(st.integers(1, N_FRAMES // 4), max_size=40))
def test_a_reader_that_keeps_up_misses_nothing(sizes: list[int]) -> None:
    with closing(Ring.create(FORM, N_FRAMES)) as ring:
        reader = Reader(ring, backlog=True)
        received = b""
        for at, n in zip(np.cumsum([0, *sizes]), sizes, strict=False):
            ring.write(numbered(int(at), n), time_ns=1)
            chunks = list(reader.read())
            assert [chunk.n_overwritten for chunk in chunks] == [0]
            received += chunks[0].data
        assert received == bytes(numbered(0, sum(sizes)))


def test_a_late_reader_starts_at_the_next_write(ring: Ring) -> None:
    ring.write(numbered(0, 10), time_ns=1)
    reader = Reader(ring)
    ring.write(numbered(10, 5), time_ns=2)
    assert [(chunk.record.frame, chunk.n_overwritten) for chunk in reader.read()] == [(10, 0)]


def test_overruns_and_times_stay_with_their_frames(ring: Ring) -> None:
    reader = Reader(ring, backlog=True)
    ring.write(numbered(0, 10), time_ns=(1 << 40) + 7)
    ring.write(numbered(10, 10), time_ns=(1 << 41) + 9, overrun=True)
    records = [chunk.record for chunk in reader.read()]
    assert [(one.frame, one.time_ns, one.overrun) for one in records] == [(0, (1 << 40) + 7, False), (10, (1 << 41) + 9, True)]


def test_frame_numbers_pass_32_bits() -> None:
    with closing(Ring.create(FORM, N_FRAMES, first_frame=(1 << 32) - 7)) as ring:  # as after 75 hours at 16 kHz
        reader = Reader(ring)
        ring.write(numbered(0, 5), time_ns=1)
        ring.write(numbered(5, 5), time_ns=2)
        assert [chunk.record.frame for chunk in reader.read()] == [(1 << 32) - 7, (1 << 32) - 2]


def test_record_numbers_wrap() -> None:
    with closing(Ring.create(FORM, N_FRAMES, first_number=0xFFFFFFFD)) as ring:  # as after years
        reader = Reader(ring)
        for at in range(6):
            ring.write(numbered(at, 1), time_ns=at)
        assert [chunk.record.frame for chunk in reader.read()] == list(range(6))


def test_more_records_than_the_ring_holds_are_a_gap(ring: Ring) -> None:
    reader = Reader(ring, backlog=True)
    for at in range(N_RECORDS + 100):
        ring.write(numbered(at, 1), time_ns=at)
    chunks = list(reader.read())
    assert chunks[0].n_overwritten == chunks[0].record.frame == N_RECORDS + 100 - len(chunks)


def test_a_record_that_is_being_written_is_not_read(ring: Ring) -> None:
    ring.write(numbered(0, 10), time_ns=1)
    with mmap.mmap(ring.fd, 4096) as memory:
        for word in (0, 7):  # the first and the last of record 1: after 16 words of header and record 0, of 8 words
            at = slice(4 * (16 + 8 + word), 4 * (16 + 8 + word + 1))
            whole = memory[at]
            memory[at] = bytes(4)
            assert ring.record(1) is None
            memory[at] = whole
    assert ring.record(1) is not None


def test_a_process_that_writes_as_fast_as_it_can_is_never_misread() -> None:
    fd = new_ring_fd()
    with subprocess.Popen([sys.executable, "-c", WRITER, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE, text=True) as writer:
        while not os.fstat(fd).st_size:
            assert writer.poll() is None
        while os.pread(fd, 4, 0) == bytes(4):
            pass
        with closing(Ring.attach(fd)) as ring:
            reader = Reader(ring, backlog=True)
            expected, n_read, running = 0, 0, True
            while running:
                running = writer.poll() is None
                for chunk in reader.read():
                    frames = np.frombuffer(chunk.data, "<i4").reshape(-1, 2)
                    assert chunk.record.frame == expected + chunk.n_overwritten
                    np.testing.assert_array_equal(frames[:, 0], np.arange(len(frames)) + chunk.record.frame)
                    np.testing.assert_array_equal(frames[:, 1], ~frames[:, 0])
                    expected = chunk.record.frame + chunk.record.n_frames
                    n_read += len(frames)
        assert writer.stdout is not None
        assert expected == int(writer.stdout.read())
        assert n_read > 10_000


@pytest.mark.parametrize(("n_bytes", "why"), [(0, "must have at least"), (1 << 20, "must begin with")])
def test_memory_that_is_no_ring_is_refused_and_closed(n_bytes: int, why: str) -> None:
    fd = new_ring_fd()
    os.ftruncate(fd, n_bytes)
    with pytest.raises(SourceError, match=why):
        Ring.attach(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_ring_that_cannot_be_mapped_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Ring.create(FORM, N_FRAMES)) as writer:
        fd = os.dup(writer.fd)
        monkeypatch.setattr(mmap, "mmap", Mock(side_effect=MemoryError))
        with pytest.raises(MemoryError):
            Ring.attach(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize(
    ("sample_format", "data", "expected"),
    [
        ("int16", np.array([0, 1, -32768, 32767], "<i2").tobytes(), [0, 2**-15, -1, 1 - 2**-15]),
        ("int24", bytes((0, 0, 0, 1, 0, 0, 0, 0, 128, 255, 255, 127)), [0, 2**-23, -1, 1 - 2**-23]),
        ("int32", np.array([0, 256, -(2**31), 2**30], "<i4").tobytes(), [0, 2**-23, -1, 0.5]),
        ("float32", np.array([0, -0.25, np.nan, np.inf], "<f4").tobytes(), [0, -0.25, 0, 0]),
    ],
)
def test_every_format_has_full_scale_one(sample_format: str, data: bytes, expected: list[float]) -> None:
    frames = to_float(data, SoundFormat(16000, 2, sample_format))
    assert frames.dtype == np.float32
    assert frames.tolist() == [expected[:2], expected[2:]]
    form = SoundFormat(16000, 2, sample_format)
    assert mono(data, form, 2).tolist() == expected[1::2]
    assert mono(data, form, None).tolist() == [
        sum(expected[:2]) / 2,
        np.float32(sum(expected[2:]) / 2),
    ]
