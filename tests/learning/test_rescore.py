"""Ticks scored again in pieces, and what is combined from them."""

from dataclasses import replace

import numpy as np
import pytest

from monitor.arrays import F64
from monitor.block import Block
from monitor.explain.profile import SegmentProfile
from monitor.learning.rescore import (
    ProfiledTick,
    RescoreResult,
    cut,
    held_out,
    independent_sums,
    mean_frame_of,
    profiles,
    rescore,
)
from monitor.scoring.features import TickFrames
from monitor.scoring.quality import Quality
from monitor.scoring.scorer import TickScore
from tests.scoring.linear import TICK, linear_scorer
from tests.signals import hum

SCORER = linear_scorer(segment_ticks=4)


def ticks_of(n: int, *, seed: int = 0) -> list[TickFrames]:
    SCORER.reset()
    return SCORER.extract(Block(0, hum(seed, n * TICK + 512)))


def mean_of(piece: list[TickFrames]) -> F64:
    found = mean_frame_of(piece)
    assert found is not None
    return found


def silent(tick: TickFrames) -> TickFrames:
    return replace(tick, frames=None, quality=replace(tick.quality, reason="silent"))


def test_full_segments_count_or_the_longest_of_a_short_piece() -> None:
    ticks = ticks_of(6)
    result = rescore(SCORER, [ticks, ticks[:3], ticks[:1]])
    assert [len(one) for one in result.sequences] == [3, 1]
    assert len(result.scores) == len(result.sums) == len(result.frames) == 4
    assert [len(one) for one in result.ticks] == [6, 3, 1]
    assert len(result.file_scores) == 3
    assert len(result.frequent) == 5 + 2
    np.testing.assert_allclose(result.frames[3], mean_of(ticks[:3]), atol=1e-4)
    np.testing.assert_allclose(result.frames[0], mean_of(ticks[:4]), atol=1e-4)
    assert result.file_scores[1] == pytest.approx(result.scores[3])


def test_a_piece_starts_anew() -> None:
    ticks = ticks_of(5)
    twice = rescore(SCORER, [ticks, ticks])
    assert np.array_equal(twice.sequences[0], twice.sequences[1])


@pytest.mark.parametrize(("n", "n_independent"), [(1, 0), (2, 1), (3, 1), (4, 1), (7, 1), (8, 2), (11, 2), (12, 3)])
def test_sums_of_segments_that_share_no_sound(n: int, n_independent: int) -> None:
    assert len(independent_sums(SCORER, [ticks_of(n)])) == n_independent


def test_the_next_independent_segment_has_new_ticks_alone() -> None:
    ticks = ticks_of(9)
    ticks[5] = silent(ticks[5])
    scored = rescore(SCORER, [ticks])
    found = independent_sums(SCORER, [ticks])
    assert len(found) == 2
    np.testing.assert_array_equal(found[0], scored.sums[0])
    np.testing.assert_array_equal(found[1], scored.sums[-1])
    assert len(scored.sums) == 5


def tick_score(at: int, tick_score: float | None, rms_dbfs: float = -30.0) -> TickScore:
    quality = Quality(rms_dbfs, 0.1, 0.0, 0.0, 0.0, None if tick_score else "silent")
    return TickScore(at, at + 1, quality, quality.reason, None, 1, score_alone=lambda: tick_score)


def result(sequences: tuple[F64, ...], ticks: tuple[TickScore, ...], file_score: float) -> RescoreResult:
    nothing = np.empty((0, 0))
    scores = np.concatenate(sequences)
    return RescoreResult(
        scores, nothing, nothing, sequences, np.array([file_score]), (ticks,), np.full((2, 3), file_score, np.float32)
    )


def test_held_out_scores_count_valid_ticks_and_every_tenth_segment() -> None:
    first = result((np.arange(25.0),), (tick_score(0, 1.0, -20.0), tick_score(1, None), tick_score(2, 2.0)), 5.0)
    second = result((np.arange(100.0, 103.0), np.arange(200.0, 211.0)), (tick_score(0, 3.0),) * 4, 6.0)
    found = held_out([first, second], segment_ticks=10, tick_s=600.0, n_recordings=2, n_learned=3, drift=0.1)
    assert found.hours == pytest.approx(1.0)  # six ticks of ten minutes
    assert found.unit_scores.tolist() == [0.0, 10.0, 20.0, 100.0, 200.0, 210.0]
    assert found.file_scores.tolist() == [5.0, 6.0]
    assert found.tick_scores.tolist() == [1.0, 2.0, 3.0, 3.0, 3.0, 3.0]
    assert found.tick_levels_dbfs.tolist() == [-20.0] + [-30.0] * 5
    assert (found.n_recordings, found.n_learned, found.drift, len(found.frequent)) == (2, 3, 0.1, 4)
    assert len(found.segment_scores) == 39
    assert held_out([first], segment_ticks=10, tick_s=1.0, n_recordings=1, n_learned=1).drift == 0.0


def test_a_stream_is_cut_into_blocks_of_at_least_a_length() -> None:
    ticks = ticks_of(7)
    assert [[tick.start // TICK for tick in block] for block in cut(ticks, length=3)] == [[0, 1, 2], [3, 4, 5, 6]]
    assert [len(block) for block in cut(ticks, length=8)] == [7]
    assert cut([], length=3) == []


def test_a_mean_frame_leaves_out_padding_and_ticks_without_frames() -> None:
    first, second, third = ticks_of(3)
    low, high = (np.full((32, 64), db, np.float32) for db in (-60.0, -30.0))
    high[16:] = 0.0
    parts = [replace(first, frames=low), silent(second), replace(third, frames=high, n_frames=16)]
    np.testing.assert_allclose(mean_of(parts), -50.0)
    assert mean_frame_of([silent(second)]) is None


def test_a_profile_counts_if_its_segment_lies_in_the_piece() -> None:
    ticks = ticks_of(4)
    profile = SegmentProfile(np.zeros(64), np.zeros(64), np.zeros((1, 1), np.float32), ticks[1].start)
    ticks[3] = ProfiledTick(**vars(ticks[3]), profile=profile)
    assert [len(profiles([ticks[first:]])) for first in range(4)] == [1, 1, 0, 0]
