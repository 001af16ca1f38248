import pickle
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.arrays import F32, F64
from monitor.block import Block
from monitor.errors import ScoreError
from monitor.scoring.components import Detector, Observation, Reconstruction
from monitor.scoring.scorer import Model, Scorer, score_stream
from tests.scoring.linear import TICK, linear_model, linear_scorer
from tests.signals import blocks, even_blocks, hum


def test_a_segment_is_scored_from_half_its_length_on() -> None:
    ticks = score_stream(linear_scorer(), blocks(hum(1, 12 * TICK + 512)))
    assert [tick.score is not None for tick in ticks] == [False] * 4 + [True] * 8
    assert [tick.n_ticks for tick in ticks] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]
    assert all(tick.tick_score is not None for tick in ticks)


def test_a_segments_score_is_the_mean_over_its_windows() -> None:
    ticks = score_stream(linear_scorer(), blocks(hum(1, 12 * TICK + 512)))
    own = [tick.tick_score for tick in ticks if tick.tick_score is not None]
    assert ticks[-1].score == pytest.approx(np.mean(own[-10:]), rel=1e-12)
    assert ticks[9].score == pytest.approx(np.average(own[:10], weights=[28] + [32] * 9), rel=1e-12)


def test_a_whole_file_is_scored_over_all_its_windows_even_if_shorter_than_a_segment() -> None:
    scorer = linear_scorer()
    ticks = score_stream(scorer, blocks(hum(1, 3 * TICK)))
    own = [tick.tick_score for tick in ticks if tick.tick_score is not None]
    assert [tick.score for tick in ticks] == [None] * 3
    assert scorer.file_score() == pytest.approx(np.average(own, weights=[28, 32, 31]), rel=1e-12)
    assert scorer.scored_frames == 95


def test_padding_at_the_end_does_not_count() -> None:
    scorer = linear_scorer()
    signal = hum(1, 2 * TICK)
    score_stream(scorer, blocks(signal))
    short = scorer.file_score()
    score_stream(scorer, blocks(np.concatenate((signal, np.full(500, 0.9, np.float32)))))
    assert scorer.file_score() == short


def test_sound_too_short_for_a_window_has_no_score() -> None:
    scorer = linear_scorer()
    assert [tick.reason for tick in score_stream(scorer, blocks(hum(1, 1024 + 3 * 512)))] == ["short"]
    assert scorer.file_score() is None
    score_stream(scorer, blocks(hum(1, 1024 + 4 * 512)))
    assert scorer.file_score() is not None


def test_a_gap_starts_the_windows_anew_and_the_segment_goes_on() -> None:
    signal = hum(1, 30 * TICK)
    parts = [Block(0, signal[: 8 * TICK]), Block(9 * TICK, signal[9 * TICK : 14 * TICK])]
    ticks = score_stream(linear_scorer(), parts)
    after = next(tick for tick in ticks if tick.start == 9 * TICK)
    assert after.n_ticks == 8
    assert after.score is not None
    alone = score_stream(linear_scorer(), [Block(0, signal[9 * TICK : 14 * TICK])])
    assert after.tick_score == alone[0].tick_score


def test_ticks_older_than_twice_a_segment_leave_it() -> None:
    signal = hum(1, 6 * TICK + 512)
    ticks = score_stream(linear_scorer(), [Block(0, signal), Block(19 * TICK, signal)])
    after = [tick for tick in ticks if tick.start >= 19 * TICK]
    assert [tick.n_ticks for tick in after] == [7] * 6  # one leaves as one comes
    long_after = score_stream(linear_scorer(), [Block(0, signal), Block(40 * TICK, signal)])[6:]
    assert [tick.score is None for tick in long_after] == [True] * 4 + [False] * 2


def test_an_overrun_every_nine_seconds_does_not_keep_a_machine_from_being_scored() -> None:
    signal = hum(1, 70 * TICK)
    parts, start, step = [], 0, 9 * 16_000
    while start + step < len(signal):
        parts.append(Block(start, signal[start : start + step - 160]))  # 10 ms lost at the end of each
        start += step
    ticks = score_stream(linear_scorer(), parts)
    assert all(tick.score is not None for tick in ticks[5:])


def test_silence_is_not_scored() -> None:
    signal = hum(1, 20 * TICK)
    signal[8 * TICK : 11 * TICK] = 0.0
    ticks = score_stream(linear_scorer(), blocks(signal))
    silent = [tick for tick in ticks if tick.reason == "silent"]
    assert 2 <= len(silent) <= 4
    assert all(tick.tick_score is None and tick.score is None for tick in silent)


def test_the_error_may_be_squared_or_absolute() -> None:
    target = np.array([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], np.float32)
    predicted = np.zeros((3, 2), np.float32)
    seen = Observation(target, predicted, np.array([True, True, False]), target)
    for error, want in (("mse", (2.5 + 12.5) / 2), ("mae", (1.5 + 3.5) / 2)):
        component = Reconstruction(error)  # type: ignore[arg-type]
        assert component.score(component.measure(seen)) == pytest.approx(want)


def test_a_score_that_is_not_finite_names_its_component() -> None:
    detector = Detector([Reconstruction("mse")])
    with pytest.raises(ScoreError, match="component reconstruction must give a finite score, got nan"):
        detector.score(np.array([np.nan, 3.0]))


def test_no_window_spans_a_tick_that_may_not_be_scored() -> None:
    signal = hum(1, 20 * TICK)
    signal[8 * TICK + 2_000 : 9 * TICK + 2_000] = 0.0
    ticks = score_stream(linear_scorer(), blocks(signal))
    last_silent = max(i for i, tick in enumerate(ticks) if tick.reason == "silent")
    first_after = ticks[last_silent + 1]
    alone = score_stream(linear_scorer(), [Block(0, signal[first_after.start :])])
    assert first_after.tick_score == alone[0].tick_score


class FailsOnce:
    """The linear model, which fails at the third prediction, or already when it encodes the frames of that tick."""

    def __init__(self, model: Model, *, at: str) -> None:
        self._model = model
        self._at = at
        self._n = {"encode": -1, "predict": 0}  # a scorer encodes one frame when it is made

    def _count(self, what: str) -> None:
        self._n[what] += 1
        if what == self._at and self._n[what] == 3:
            raise MemoryError("no memory")

    def encode(self, frames: F32) -> NDArray[Any]:
        self._count("encode")
        return self._model.encode(frames)

    def predict(self, windows: NDArray[Any]) -> F32:
        self._count("predict")
        return self._model.predict(windows)


@pytest.mark.parametrize("at", ["encode", "predict"])
def test_an_exception_while_scoring_neither_repeats_a_tick_nor_mixes_it_with_those_after_it(at: str) -> None:
    reference, sound = linear_scorer(), hum(1, 12 * TICK + 512)
    scorer = Scorer(reference.spec, FailsOnce(linear_model(), at=at), reference.detector)
    scored = []
    for block in even_blocks(sound, 1600):
        with suppress(MemoryError):
            scored += list(scorer.push(block))
    assert [tick.start // TICK for tick in scored] == [0, 1, *range(3, 12)]
    whole = score_stream(reference, blocks(sound))
    expected = {tick.start: tick.tick_score for tick in whole}
    assert [tick.tick_score for tick in scored[3:]] == [expected[tick.start] for tick in scored[3:]]
    if at == "encode":  # no window spans the tick that is missing
        alone = score_stream(linear_scorer(), [Block(3 * TICK, sound[3 * TICK :])])
        assert scored[2].tick_score == alone[0].tick_score


def test_single_ticks_of_normal_sound_are_not_scored_and_can_be_later() -> None:
    calls: list[F64] = []
    scorer = linear_scorer()
    scorer.detector = CountsScores([Reconstruction("mse")], calls)
    ticks = score_stream(scorer, blocks(hum(1, 12 * TICK + 512)))
    assert len(calls) == sum(tick.score is not None for tick in ticks)
    computed = [tick.computed() for tick in ticks]
    assert computed == ticks
    assert [tick.tick_score for tick in pickle.loads(pickle.dumps(computed))] == [tick.tick_score for tick in ticks]


class CountsScores(Detector):
    def __init__(self, components: list[Reconstruction], calls: list[F64]) -> None:
        super().__init__(components)
        self._calls = calls

    def score(self, sums: F64) -> float | None:
        self._calls.append(sums)
        return super().score(sums)
