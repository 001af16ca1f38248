"""Two severities through the pipeline: a warning, an alarm, and the update from one to the other."""

import numpy as np
import pytest

from monitor.arrays import F32
from monitor.errors import ConfigError
from monitor.events.event import Event
from monitor.events.pipeline import Result
from tests.events.test_pipeline import make_pipeline, run, seconds
from tests.scoring.linear import TICK
from tests.scoring.test_fast_path import listening, scream, with_scream
from tests.signals import even_blocks, hum, noise

WEAK, STRONG = 0.01, 0.2  # hiss over the machine's own of .01: ratios of about 2 and 100
ALARM_MARGIN = 8.0  # of normal; the threshold for warnings is at 1.5


def hissing(parts: list[tuple[float, float]]) -> F32:
    """Seconds of the machine, each with a hiss of this level on top."""
    sounds = []
    for i, (length_s, level) in enumerate(parts):
        sound = hum(i, round(length_s * 16000))
        sounds.append(sound + noise(100 + i, len(sound), level=level))
    return np.concatenate(sounds)


def told(events: list[Event]) -> list[tuple[str, int, str]]:
    return [(event.event_type, event.seq, event.severity) for event in events]


def severities(steps: list[Result]) -> list[tuple[str, str | None]]:
    """The states and severities gone through, each once."""
    seen = [(step.state, step.severity) for step in steps]
    return [one for i, one in enumerate(seen) if i == 0 or one != seen[i - 1]]


def test_a_weak_fault_is_a_warning_until_it_is_over() -> None:
    steps, events = run(hissing([(40, 0.0), (70, WEAK), (60, 0.0)]), make_pipeline(alarm_margin=1e6))
    assert told(events) == [("start", 0, "warning"), ("update", 1, "warning"), ("end", 2, "warning")]
    assert severities(steps) == [("starting", None), ("normal", None), ("anomaly", "warning"), ("normal", None)]


def test_without_an_alarm_threshold_everything_is_an_alarm() -> None:
    _, events = run(hissing([(40, 0.0), (40, WEAK)]))
    assert {event.severity for event in events} == {"alarm"}


def test_an_alarm_needs_the_ratio_of_its_threshold_to_that_for_warnings() -> None:
    signal = hissing([(40, 0.0), (60, STRONG)])
    steps, _ = run(signal, make_pipeline(alarm_margin=1e6))
    largest = max(step.ratio for step in steps if step.ratio is not None)
    for part, severity in ((0.8, "alarm"), (1.2, "warning")):
        _, events = run(signal, make_pipeline(alarm_margin=1.5 * part * largest))
        assert events[-1].severity == severity


def test_an_alarm_threshold_below_that_for_warnings_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"alarm_threshold must be at least threshold \(.*\), got "):
        make_pipeline(alarm_margin=1.4)


def test_a_fault_that_grows_is_one_event_which_becomes_an_alarm_at_once() -> None:
    steps, events = run(hissing([(40, 0.0), (30, WEAK), (70, STRONG), (60, 0.0)]), make_pipeline(alarm_margin=ALARM_MARGIN))
    start, became, later, end = events
    assert told(events) == [("start", 0, "warning"), ("update", 1, "alarm"), ("update", 2, "alarm"), ("end", 3, "alarm")]
    assert len({event.id for event in events}) == 1
    assert became.ratio >= ALARM_MARGIN / 1.5  # of the threshold for warnings, which stays
    assert became.threshold == start.threshold
    assert 70 + 11 < seconds(became.ts) < 70 + 22  # twelve segments over the alarm level; no wait for the minute
    assert seconds(later.ts) - seconds(became.ts) == pytest.approx(60, abs=1.1)
    assert start.onset_ts == end.onset_ts
    assert max(band.excess_db for band in became.bands) > max(band.excess_db for band in start.bands) + 10  # described anew
    states = severities(steps)
    assert states[1:] == [("normal", None), ("anomaly", "warning"), ("anomaly", "alarm"), ("normal", None)]
    raised = next(step for step in steps if step.severity == "alarm")
    assert raised.event == became


def test_an_alarm_that_grows_weaker_stays_an_alarm() -> None:
    _, events = run(hissing([(40, 0.0), (40, STRONG), (70, WEAK)]), make_pipeline(alarm_margin=ALARM_MARGIN))
    assert {event.severity for event in events} == {"alarm"}
    assert events[-1].ratio < ALARM_MARGIN / 1.5


def test_any_block_size_gives_the_same_events_with_two_levels() -> None:
    signal = hissing([(30, 0.0), (30, WEAK), (30, STRONG)])
    whole = run(signal, make_pipeline(alarm_margin=ALARM_MARGIN))[1]
    assert [event.severity for event in whole] == ["warning", "alarm", "alarm"]
    assert run(even_blocks(signal, 1601), make_pipeline(alarm_margin=ALARM_MARGIN))[1] == whole


def test_a_scream_is_an_alarm_whatever_the_segments_score() -> None:
    steps, events = run(with_scream(30, 16 * TICK, 10**9), listening(alarm_threshold=1e9))
    assert told(events) == [("start", 0, "alarm"), ("end", 1, "alarm")]
    assert events[0].raised_by == "fast"
    assert severities(steps)[-1] == ("anomaly", "alarm")


def test_a_scream_makes_an_alarm_of_an_open_warning_at_once() -> None:
    signal = hum(3, 100 * 16000)
    signal[30 * 16000 :] += noise(8, 70 * 16000, level=0.02)
    at = 70 * 16000
    signal[at:] += scream("2400", len(signal) - at, db=20.0)
    _, events = run(signal, listening(alarm_threshold=1e9))
    start, became, *_ = events
    assert (start.severity, start.raised_by) == ("warning", "segments")
    assert (became.event_type, became.seq, became.severity, became.raised_by) == ("update", 1, "alarm", "segments")
    assert seconds(became.ts) - 70 <= 2.6
    assert became.threshold != start.threshold  # of the fast path, as its score
    assert became.score == pytest.approx(became.ratio * became.threshold, rel=1e-3)
    assert became.bands[0].low_hz < 2400 < became.bands[0].high_hz
    assert [event.seq for event in events] == list(range(len(events)))


def test_a_machine_that_is_off_is_an_alarm_where_that_is_the_anomaly() -> None:
    signal = np.concatenate((hum(4, 40 * 16000), noise(7, 60 * 16000, level=0.0005)))
    _, events = run(signal, listening(idle_below_dbfs=-50.0, alarm_threshold=1e9))
    alarm = next(event for event in events if event.severity == "alarm")
    assert alarm.score is None
    assert seconds(alarm.ts) - 40 == pytest.approx(12 * 1.024, abs=2.1)  # k of n, whatever the segments before said
    assert events[-1].severity == "alarm"
