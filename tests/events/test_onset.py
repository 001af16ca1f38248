"""When an anomaly began, how long it lasted and how far it went, from single ticks."""

from collections.abc import Sequence
from functools import partial

import pytest

from monitor.events.onset import Anomaly, OnsetTracker, ScoredTick


def tracker(ticks: Sequence[tuple[float, float | None]], *, fast_ratio: float = 0.0) -> OnsetTracker:
    """Ticks of 10 samples: each one's own ratio, and that of the segment that ends with it."""
    onsets = OnsetTracker(raise_n=6, segment_ticks=4)
    for i, (own, ratio) in enumerate(ticks):
        onsets.push(ScoredTick(10 * i, 10 * i + 10, partial(float, own), ratio, fast_ratio))
    return onsets


CALM, HALF, LOUD = (0.5, 0.6), (1.5, 0.8), (2.0, 1.5)


@pytest.mark.parametrize(
    ("ticks", "start", "last_stop"),
    [
        ([CALM] * 3 + [HALF] * 2 + [LOUD] * 4, 30, 90),  # the fault's first ticks do not lift the segment over the threshold
        ([HALF, CALM, CALM, CALM, LOUD, LOUD], 40, 60),  # half of the ticks must be over it
        ([CALM, HALF, CALM, HALF, LOUD, LOUD], 10, 60),
        ([HALF, HALF, HALF, HALF, HALF, LOUD, LOUD], 20, 70),  # not earlier than the first segment that was over it
        ([CALM, (0.9, 1.0), (0.9, 1.2)], 10, 20),  # no tick by itself
        ([CALM, (1.0, 1.0), (0.9, 1.2)], 10, 20),
        ([LOUD, (1.5, None), (0.5, None)], 0, 20),  # ticks without a segment count, too
    ],
)
def test_an_anomaly_begins_with_the_first_of_its_ticks(
    ticks: list[tuple[float, float | None]], start: int, last_stop: int
) -> None:
    anomaly = tracker(ticks).anomaly("alarm")
    assert (anomaly.start, anomaly.last_stop, anomaly.severity, anomaly.raised_by) == (start, last_stop, "alarm", "segments")


def test_the_peak_is_that_of_the_segments() -> None:
    assert tracker([(9.0, 0.5), (2.0, 1.5), (2.0, 3.0), (9.0, None)]).anomaly("warning").peak_ratio == 3.0


def test_ticks_that_are_too_old_or_of_the_last_anomaly_are_no_onset() -> None:
    assert tracker([LOUD] * 30).anomaly("warning").start == 200
    onsets = tracker([LOUD] * 3)
    onsets.clear()
    onsets.push(ScoredTick(500, 510, lambda: 2.0, 1.5))
    assert onsets.anomaly("warning").start == 500


def test_a_gross_fault_begins_with_the_ticks_of_the_fast_path() -> None:
    anomaly = tracker([LOUD] * 5, fast_ratio=1.7).gross(2)
    assert (anomaly.start, anomaly.last_stop, anomaly.peak_ratio) == (30, 50, 1.7)
    assert (anomaly.severity, anomaly.raised_by) == ("alarm", "fast")


@pytest.mark.parametrize(
    ("own", "ratio", "fast_ratio", "last_stop", "peak"),
    [
        (2.0, 1.5, 0.0, 110, 1.5),
        (2.0, 1.5, 0.99, 110, 1.5),
        (0.9, 1.5, 0.0, 50, 1.5),  # its own score is below the threshold
        (2.0, 0.9, 0.0, 50, 1.2),  # a tick that passes by chance
        (1.0, 1.0, 0.0, 110, 1.2),
        (2.0, None, 0.0, 50, 1.2),
        (0.5, None, 1.0, 110, 1.2),
        (0.5, 0.6, 4.0, 110, 1.2),  # the fast path, whose ratio is on another scale
        (0.5, 5.0, 4.0, 110, 5.0),
    ],
)
def test_an_open_anomaly_is_extended_by_ticks_that_are_part_of_it(
    own: float, ratio: float | None, fast_ratio: float, last_stop: int, peak: float
) -> None:
    anomaly = Anomaly(start=0, last_stop=50, peak_ratio=1.2, severity="warning")
    anomaly.update(ScoredTick(100, 110, lambda: own, ratio, fast_ratio))
    assert (anomaly.last_stop, anomaly.peak_ratio) == (last_stop, peak)
