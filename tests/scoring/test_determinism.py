"""Block sizes do not change a bit of the scores."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.block import Block
from monitor.bundle import load_bundle
from monitor.scoring.front_end import LogMelSpec
from monitor.scoring.scorer import Scorer, TickScore, score_stream
from tests.scoring.linear import frames_of, linear_scorer
from tests.signals import blocks, even_blocks, hum

SIGNAL = hum(7, 20 * 16000)


@pytest.mark.parametrize("size", [1, 160, 511, 512, 1_000, 16_000, 160_000])
def test_any_block_size_gives_the_same_frames(size: int) -> None:
    signal = SIGNAL[:50_000] if size == 1 else SIGNAL
    assert frames_of(even_blocks(signal, size)).tobytes() == frames_of(blocks(signal)).tobytes()


def all_scores(scorer: Scorer, parts: Iterable[Block]) -> list[tuple[TickScore, float | None]]:
    """Every tick, and its score alone, which is not part of its equality."""
    return [(tick, tick.tick_score) for tick in score_stream(scorer, parts)]


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(SIGNAL)), max_size=60))
def test_random_cuts_give_the_same_frames(cuts: list[int]) -> None:
    assert frames_of(blocks(SIGNAL, cuts)).tobytes() == frames_of(blocks(SIGNAL)).tobytes()


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(SIGNAL)), max_size=60))
def test_random_cuts_give_the_same_scores(cuts: list[int]) -> None:
    scorer = linear_scorer()
    assert all_scores(scorer, blocks(SIGNAL, cuts)) == all_scores(scorer, blocks(SIGNAL))


@settings(max_examples=15)
@given(st.lists(st.integers(0, len(SIGNAL)), max_size=60))
def test_random_cuts_give_the_same_scores_on_the_shipped_model(cuts: list[int]) -> None:
    scorer = load_bundle(Path(__file__).parents[2] / "models" / "demo-fan").scorer()
    assert all_scores(scorer, blocks(SIGNAL, cuts)) == all_scores(scorer, blocks(SIGNAL))


def test_a_late_start_at_a_tick_gives_the_same_frames() -> None:
    whole = frames_of(blocks(SIGNAL))
    late = frames_of([Block(0, SIGNAL[3 * 32 * 512 :])])
    assert late.tobytes() == whole[3 * 32 :].tobytes()


def test_a_reset_scorer_scores_as_a_new_one() -> None:
    scorer = linear_scorer()
    score_stream(scorer, [Block(0, hum(1, 100_000))])
    assert all_scores(scorer, blocks(SIGNAL)) == all_scores(linear_scorer(), blocks(SIGNAL))


WIDE = {
    44_100: LogMelSpec(sample_rate_hz=44_100, n_fft=4096, hop_length=1411, n_mels=128, fmax_hz=20_000.0),
    48_000: LogMelSpec(sample_rate_hz=48_000, n_fft=4500, hop_length=1536, n_mels=128, fmax_hz=20_000.0),
}
WIDE_SIGNAL = hum(7, 12 * 48_000, rate_hz=48_000)


@pytest.mark.parametrize("rate_hz", WIDE)
@settings(max_examples=10)
@given(cuts=st.lists(st.integers(0, len(WIDE_SIGNAL)), max_size=60))
def test_random_cuts_give_the_same_frames_and_scores_at_the_rates_of_wide(rate_hz: int, cuts: list[int]) -> None:
    front_end = WIDE[rate_hz]
    assert frames_of(blocks(WIDE_SIGNAL, cuts), front_end).tobytes() == frames_of(blocks(WIDE_SIGNAL), front_end).tobytes()
    scorer = linear_scorer(front_end=front_end)
    assert all_scores(scorer, blocks(WIDE_SIGNAL, cuts)) == all_scores(scorer, blocks(WIDE_SIGNAL))
