import numpy as np

from monitor.arrays import F32
from monitor.block import Block
from monitor.scoring.ticks import Ticks
from tests.signals import noise

SIGNAL = noise(1, 40_000)


def collect(parts: list[Block], *, flush: bool = False) -> list[tuple[int, int, bool, F32]]:
    ticks = Ticks(n_fft=64, hop_length=16, tick_frames=4)
    found = [(tick.start, tick.n_frames, tick.fresh, tick.samples.copy()) for part in parts for tick in ticks.push(part)]
    if flush:
        found += [(tick.start, tick.n_frames, tick.fresh, tick.samples.copy()) for tick in ticks.flush()]
    return found


def test_ticks_follow_each_other_without_a_hole() -> None:
    found = collect([Block(0, SIGNAL[:1000])])
    assert [start for start, *_ in found] == list(range(0, 64 * len(found), 64))
    for start, _, _, samples in found:
        assert np.array_equal(samples, SIGNAL[start : start + 64 + 48])
    assert [fresh for _, _, fresh, _ in found] == [True] + [False] * (len(found) - 1)


def test_a_gap_drops_the_partial_tick_and_no_tick_spans_it() -> None:
    found = collect([Block(0, SIGNAL[:150]), Block(5_000, SIGNAL[5_000:5_200])])
    assert [(start, fresh) for start, _, fresh, _ in found] == [(0, True), (5_000, True), (5_064, False)]
    for start, _, _, samples in found:
        assert np.array_equal(samples, SIGNAL[start : start + 112])


def test_one_missing_sample_is_a_gap() -> None:
    found = collect([Block(0, SIGNAL[:200]), Block(201, SIGNAL[201:400])])
    assert [start for start, *_ in found] == [0, 64, 201, 265]


def test_flush_pads_the_last_tick_and_counts_its_frames() -> None:
    *_, (start, n_frames, fresh, samples) = collect([Block(0, SIGNAL[:208])], flush=True)
    assert (start, n_frames, fresh) == (128, 2, False)
    assert np.array_equal(samples[:80], SIGNAL[128:208])
    assert not samples[80:].any()


def test_flush_gives_nothing_without_a_whole_frame() -> None:
    assert collect([Block(0, SIGNAL[:63])], flush=True) == []
    assert len(collect([Block(0, SIGNAL[:64])], flush=True)) == 1


def test_it_tells_how_many_samples_the_next_tick_needs() -> None:
    ticks = Ticks(n_fft=64, hop_length=16, tick_frames=4)
    assert ticks.n_missing == 64 + 48
    for at, size in ((0, 100), (100, 12), (112, 30), (5_000, 10)):
        n_before = ticks.n_missing
        (completed, *_) = [*ticks.push(Block(at, SIGNAL[at : at + size])), None]
        assert (completed is not None) == (size >= n_before)
    assert ticks.n_missing == 64 + 48 - 10, "a gap starts anew"
