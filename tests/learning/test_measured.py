"""Recordings measured once are scored as the device scores them, in folds that lose nothing."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.arrays import F64
from monitor.block import Block
from monitor.learning.measured import RecordingSums, held_out_scores, joined, time_folds
from monitor.scoring.components import Detector, Reconstruction
from monitor.scoring.scorer import Scorer
from tests.scoring.linear import TICK, linear_scorer
from tests.signals import hum

SCORER = linear_scorer(segment_ticks=4)


def measure(blocks: Sequence[Block], scorer: Scorer = SCORER) -> tuple[RecordingSums, F64, F64]:
    """A stream of blocks; beside it the sums (n, k) and scores (n,) of its full segments, as the device forms them."""
    scorer.reset()
    ticks, sums, full, scores = [], [], [], []
    frames = [*chain.from_iterable(map(scorer.extract, blocks)), *scorer.extract_last()]
    for tick in map(scorer.score_tick, frames):
        if tick.reason is not None:
            continue
        ticks.append(tick)
        sums.append(scorer.tick_sums())
        if tick.n_ticks == scorer.spec.segment_ticks:
            full.append(scorer.segment_sums())
            scores.append(tick.score)
    measured = RecordingSums(
        sums=np.array(sums).reshape(len(sums), 2),
        levels_dbfs=np.array([tick.rms_dbfs for tick in ticks], np.float64),
        starts=np.array([tick.start for tick in ticks], np.int64),
        step_samples=TICK,
        hours=len(ticks) * TICK / 16000 / 3600,
        frequent=np.zeros((len(ticks), 64), np.float32),
    )
    return measured, np.array(full).reshape(len(full), 2), np.array(scores, np.float64)


def recording(n_ticks: int, *, seed: int = 0, extra_samples: int = 512) -> RecordingSums:
    return measure([Block(0, hum(seed, n_ticks * TICK + extra_samples))])[0]


def counted(*lengths: int) -> list[RecordingSums]:
    """Recordings of so many ticks whose sums number all ticks from 0."""
    stops = list(accumulate(lengths, initial=0))
    return [
        RecordingSums(
            sums=np.arange(start, start + n, dtype=np.float64)[:, None],
            levels_dbfs=np.zeros(n),
            starts=TICK * np.arange(n),
            step_samples=TICK,
            hours=float(n),
            frequent=np.zeros((n, 1), np.float32),
        )
        for start, n in zip(stops, lengths, strict=False)
    ]


def numbers(fold: Sequence[RecordingSums]) -> list[float]:
    return [float(value) for one in fold for value in one.sums[:, 0]]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 6 * TICK), st.integers(0, 10 * TICK)), min_size=1, max_size=4), st.integers(0, 9))
def test_segments_are_those_of_the_device_over_gaps_and_partial_ticks(runs: list[tuple[int, int]], seed: int) -> None:
    blocks, at = [], 0
    for n, gap in runs:
        blocks.append(Block(at, hum(seed, n)))
        at += n + gap
    measured, full, scores = measure(blocks)
    found = measured.segments(4)
    if len(found) < len(full):  # the last tick was cut short, and what is too old counts from its end
        found = np.concatenate((found, full[len(found) :][:1]))
    assert found == pytest.approx(full, rel=1e-9)
    assert [SCORER.detector.score(one) for one in found] == pytest.approx(scores, rel=1e-9)


def test_a_gap_that_is_too_long_leaves_no_segment_across_it() -> None:
    sound = hum(0, 5 * TICK + 512)
    for n_missing, n_across in ((1, 3), (4, 3), (5, 0), (20, 0)):
        measured, full, _ = measure([Block(0, sound), Block((5 + n_missing) * TICK, sound)])
        assert len(measured.segments(4)) == len(full) == 2 + 2 + n_across


def test_the_whole_of_a_recording_is_the_devices_file() -> None:
    for n_ticks in (1, 3, 9):
        measured = recording(n_ticks)
        assert SCORER.detector.score(measured.whole()) == pytest.approx(SCORER.file_score(), rel=1e-12)


def test_pieces_share_no_sound_and_a_short_recording_is_one() -> None:
    nine = counted(9)[0]
    assert nine.pieces(4)[:, 0].tolist() == [0 + 1 + 2 + 3, 4 + 5 + 6 + 7]
    assert counted(3)[0].pieces(4)[:, 0].tolist() == [0 + 1 + 2]
    assert counted(0)[0].pieces(4).shape == (0, 1)


def test_short_recordings_are_joined_until_they_fill_a_segment() -> None:
    assert [float(one[0]) for one in joined(counted(1, 1, 2, 3, 3, 1), 4)] == [0 + 1 + 2 + 3, 4 + 5 + 6 + 7 + 8 + 9]
    assert [float(one[0]) for one in joined(counted(1, 1), 4)] == [1.0]  # too little, but all there is
    assert not list(joined([], 4))


@given(st.lists(st.integers(1, 3), max_size=30))
def test_joined_segments_share_no_sound_and_leave_less_than_one_out(lengths: list[int]) -> None:
    found = [float(one[0]) for one in joined(counted(*lengths), 4)]
    total = sum(range(sum(lengths)))
    assert sum(found) <= total
    left = sum(lengths)
    while left and sum(range(left)) > sum(found):
        left -= 1
    assert sum(range(left)) == sum(found)
    assert sum(lengths) - left < 4


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(2, 6), st.integers(1, 10))
def test_time_folds_cover_every_tick_once_and_in_order(lengths: list[int], n_folds: int, n_ticks: int) -> None:
    folds = time_folds(counted(*lengths), n_folds=n_folds, n_ticks=n_ticks)
    assert [number for fold in folds for number in numbers(fold)] == list(range(sum(lengths)))
    assert 1 <= len(folds) <= n_folds
    assert all(numbers(fold) for fold in folds)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(1, 10))
def test_folds_are_cut_between_segments(lengths: list[int], n_ticks: int) -> None:
    """No separate segment is lost by a cut, and where five segments are there are five folds."""
    whole = counted(*lengths)
    folds = time_folds(whole, n_folds=5, n_ticks=n_ticks)
    n_pieces = sum(len(one.pieces(n_ticks)) for one in whole)
    assert sum(len(one.pieces(n_ticks)) for fold in folds for one in fold) == n_pieces
    assert len(folds) == min(5, n_pieces)


def test_a_stretch_keeps_the_hours_of_its_ticks() -> None:
    whole = counted(8)[0]
    assert whole[2:4].hours == pytest.approx(2.0)
    assert whole[2:4].starts.tolist() == [2 * TICK, 3 * TICK]
    assert len(whole[2:4].frequent) == 0


def test_each_fold_is_scored_by_its_own_detector() -> None:
    first, second = recording(6), recording(9, seed=1)
    strict = Detector([Reconstruction("mse")], typical=(0.5,))
    found = held_out_scores([(SCORER.detector, [first]), (strict, [second])], segment_ticks=4, n_recordings=2, n_learned=3)
    plain = held_out_scores([(SCORER.detector, [first, second])], segment_ticks=4, n_recordings=2, n_learned=3)
    assert [len(one) for one in found.sequences] == [3, 6]
    assert found.sequences[0] == pytest.approx(plain.sequences[0])
    assert found.sequences[1] == pytest.approx(2.0 * plain.sequences[1])
    assert found.file_scores == pytest.approx(plain.file_scores * [1.0, 2.0])
    assert found.tick_scores == pytest.approx(plain.tick_scores * np.repeat([1.0, 2.0], [6, 9]))
    assert found.tick_levels_dbfs.tolist() == [*first.levels_dbfs, *second.levels_dbfs]


def test_segments_that_share_no_sound_are_the_units_and_joined_ones_count_once() -> None:
    clips = [recording(1, seed=seed) for seed in range(8)]
    found = held_out_scores([(SCORER.detector, [recording(9), *clips])], segment_ticks=4, n_recordings=9, n_learned=4)
    assert [len(one) for one in found.sequences] == [6, 1, 1]
    assert found.unit_scores == pytest.approx(
        [found.sequences[0][0], found.sequences[0][4], found.sequences[1][0], found.sequences[2][0]]
    )
    assert len(found.file_scores) == 9
    assert found.hours == pytest.approx(17 * TICK / 16000 / 3600)


def test_a_segment_ends_with_its_last_tick_and_spans_at_most_twice_its_length() -> None:
    nine = counted(9)[0]
    assert nine.segment_stops(4).tolist() == [TICK * (at + 1) for at in range(3, 9)]
    assert nine.segment_stops(10).tolist() == []
    assert nine.segments(9)[:, 0].tolist() == [36.0]
    for n_missing, n_across in ((4, 3), (5, 0)):
        gap = replace(nine, starts=nine.starts + TICK * n_missing * (np.arange(9) >= 5))
        assert len(gap.segments(4)) == len(gap.segment_stops(4)) == 2 + n_across + 1
        assert gap.segment_stops(4)[-1] == TICK * (9 + n_missing)


def test_few_recordings_are_cut_into_folds_between_segments() -> None:
    """Recordings of 9 and 5 ticks hold segments of 4 at 0, 4 and 9."""
    folds = time_folds(counted(9, 5), n_folds=3, n_ticks=4)
    assert [numbers(fold) for fold in folds] == [list(range(4)), list(range(4, 9)), list(range(9, 14))]
    two = time_folds(counted(9, 5), n_folds=2, n_ticks=4)
    assert [numbers(fold) for fold in two] == [list(range(9)), list(range(9, 14))]
    whole = time_folds(counted(1, 2, 3), n_folds=3, n_ticks=4)
    assert [numbers(fold) for fold in whole] == [[0], [1, 2], [3, 4, 5]]


def test_a_stretch_has_levels_and_hours_of_its_own() -> None:
    one = replace(counted(4)[0], levels_dbfs=np.arange(4.0), hours=2.0)
    assert one[1:3].levels_dbfs.tolist() == [1.0, 2.0]
    assert one[1:3].hours == 1.0
    assert counted(0)[0][:0].hours == 0.0
