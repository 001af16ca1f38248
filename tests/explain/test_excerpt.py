"""The excerpt of a recording is its most abnormal segment, or all of a short one; made ticks and sounds."""

import numpy as np

from monitor.explain.excerpt import Excerpt
from monitor.scoring.scorer import TickScore
from monitor.scoring.tick_sound import TickSound


def sound(number: int) -> TickSound:
    return TickSound(number, np.zeros((1, 1), np.float32), np.zeros(1, np.float32))


def excerpt(scores: list[float | None], n_ticks: list[int]) -> list[int]:
    """The numbers of the ticks that are left, of segments that end with each."""
    found = Excerpt()
    for number, (score, n) in enumerate(zip(scores, n_ticks, strict=True)):
        tick = TickScore(number, number + 1, None, None if n else "silent", score, n)
        found.push(tick, [sound(i) for i in range(number - n + 1, number + 1)])
    return [one.start for one in found.sounds]


def test_a_short_recording_is_its_own_excerpt() -> None:
    assert excerpt([None, None, 9.0, 2.0], [1, 2, 3, 4]) == [0, 1, 2, 3]


def test_of_full_segments_the_most_abnormal_one_is_taken() -> None:
    assert excerpt([None, 9.0, 2.0, 5.0, 3.0], [1, 2, 3, 3, 3]) == [1, 2, 3]


def test_what_cannot_be_scored_later_takes_nothing_away() -> None:
    assert excerpt([None, 2.0, None, None], [1, 2, 1, 0]) == [0, 1]


def test_nothing_heard_is_nothing() -> None:
    assert excerpt([None, None], [0, 0]) == []
