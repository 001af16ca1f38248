"""The ring: what one process writes, others read whole, or they are told how much they missed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.audio import ring as ring_module
from monitor.audio.pcm import mono, to_float
from monitor.audio.ring import N_NOTES, Reader, Ring, RingFormat, new_ring_fd
from monitor.errors import SourceError

N_FRAMES = 400
FORM = RingFormat(rate_hz=16000, n_channels=2, sample_format="int32", n_frames=N_FRAMES)
WRITER = """
import sys, time
from monitor.audio.ring import Ring, RingFormat, new_ring_fd
form = RingFormat(16000, 2, "int32", 4000)
ring = Ring.create(form, fd=int(sys.argv[1]))
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
    with closing(Ring.create(FORM)) as made:
        yield made


@given(st.lists(st.tuples(st.integers(1, 2 * N_FRAMES), st.booleans()), max_size=30))
def test_any_cuts_give_the_same_frames_or_a_gap_of_the_right_size(steps: list[tuple[int, bool]]) -> None:
    with closing(Ring.create(FORM)) as writer, closing(Ring.attach(os.dup(writer.fd))) as ours:
        reader = Reader(ours, backlog=True)
        written = expected = 0
        for n, then_read in [*steps, (1, True)]:
            writer.write(numbered(written, n), time_ns=written + n)
            written += n
            for chunk in reader.read() if then_read else ():
                assert chunk.note.frame == expected + chunk.n_overwritten
                expected = chunk.note.frame + chunk.note.n_frames
                assert chunk.data == bytes(numbered(chunk.note.frame, chunk.note.n_frames))
            assert not then_read or expected == written


@given(st.lists(st.integers(1, N_FRAMES // 4), max_size=40))
def test_a_reader_that_keeps_up_misses_nothing(sizes: list[int]) -> None:
    with closing(Ring.create(FORM)) as ring:
        reader = Reader(ring, backlog=True)
        heard = b""
        for at, n in zip(np.cumsum([0, *sizes]), sizes, strict=False):
            ring.write(numbered(int(at), n), time_ns=1)
            chunks = list(reader.read())
            assert [chunk.n_overwritten for chunk in chunks] == [0]
            heard += chunks[0].data
        assert heard == bytes(numbered(0, sum(sizes)))


def test_a_late_reader_hears_what_comes_from_then_on(ring: Ring) -> None:
    ring.write(numbered(0, 10), time_ns=1)
    reader = Reader(ring)
    ring.write(numbered(10, 5), time_ns=2)
    assert [(chunk.note.frame, chunk.n_overwritten) for chunk in reader.read()] == [(10, 0)]


def test_overruns_and_times_stay_with_their_frames(ring: Ring) -> None:
    reader = Reader(ring, backlog=True)
    ring.write(numbered(0, 10), time_ns=(1 << 40) + 7)
    ring.write(numbered(10, 10), time_ns=(1 << 41) + 9, overrun=True)
    notes = [chunk.note for chunk in reader.read()]
    assert [(note.frame, note.time_ns, note.overrun) for note in notes] == [(0, (1 << 40) + 7, False), (10, (1 << 41) + 9, True)]


def test_frame_numbers_pass_32_bits(ring: Ring) -> None:
    ring._end = (1 << 32) - 7  # as after 75 hours at 16 kHz
    reader = Reader(ring)
    ring.write(numbered(0, 5), time_ns=1)
    ring.write(numbered(5, 5), time_ns=2)
    assert [chunk.note.frame for chunk in reader.read()] == [(1 << 32) - 7, (1 << 32) - 2]


def test_note_numbers_go_round(ring: Ring) -> None:
    ring._number = 0xFFFFFFFD  # as after years
    ring._words[ring_module._NEWEST] = 0xFFFFFFFD
    reader = Reader(ring)
    for at in range(6):
        ring.write(numbered(at, 1), time_ns=at)
    assert [chunk.note.frame for chunk in reader.read()] == list(range(6))


def test_more_notes_than_the_ring_keeps_are_a_gap(ring: Ring) -> None:
    reader = Reader(ring, backlog=True)
    for at in range(N_NOTES + 100):
        ring.write(numbered(at, 1), time_ns=at)
    chunks = list(reader.read())
    assert chunks[0].n_overwritten == chunks[0].note.frame == N_NOTES + 100 - len(chunks)


def test_a_note_that_is_being_written_is_not_believed(ring: Ring) -> None:
    ring.write(numbered(0, 10), time_ns=1)
    for word in (0, 7):  # its first and its last
        whole = ring._words[16 + 8 + word]
        ring._words[16 + 8 + word] = 99
        assert ring.note(1) is None
        ring._words[16 + 8 + word] = whole
    assert ring.note(1) is not None


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
                    assert chunk.note.frame == expected + chunk.n_overwritten
                    np.testing.assert_array_equal(frames[:, 0], np.arange(len(frames)) + chunk.note.frame)
                    np.testing.assert_array_equal(frames[:, 1], ~frames[:, 0])
                    expected = chunk.note.frame + chunk.note.n_frames
                    n_read += len(frames)
        assert writer.stdout is not None
        assert expected == int(writer.stdout.read())
        assert n_read > 10_000


def test_what_is_not_a_ring_is_refused() -> None:
    fd = new_ring_fd()
    with pytest.raises(SourceError, match="must have at least"):
        Ring.attach(fd)
    os.ftruncate(fd, 1 << 20)
    with pytest.raises(SourceError, match="must begin with"):
        Ring.attach(fd)
    os.close(fd)


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
    frames = to_float(data, RingFormat(16000, 2, sample_format, N_FRAMES))
    assert frames.dtype == np.float32
    assert frames.tolist() == [expected[:2], expected[2:]]
    assert mono(frames, 2).tolist() == expected[1::2]
    assert mono(frames, None).tolist() == [sum(expected[:2]) / 2, np.float32(sum(expected[2:]) / 2)]
