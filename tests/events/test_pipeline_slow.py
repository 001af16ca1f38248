"""The slow path in the pipeline: a minute is ten ticks here, so that 15 of them are two and a half minutes of sound."""

from dataclasses import replace

import numpy as np
import pytest

from monitor.arrays import F32
from monitor.block import Block
from monitor.events.decision import Rule
from monitor.events.event import Anchor, Event
from monitor.events.pipeline import Pipeline, Result
from monitor.events.slow_path import MINUTES, N_BLOCKS, SlowPath, SlowState
from monitor.explain.profile import level
from tests.events.test_pipeline import IDENTITY, START
from tests.scoring.linear import FRONT_END, linear_scorer
from tests.signals import blocks, hum, noise

RATE_HZ = 16000
MINUTE_S = 10 * 1.024


def sound(seed: int, minutes: float, *, hiss: float = 0.0) -> F32:
    normal = hum(seed, round(minutes * MINUTE_S * RATE_HZ))
    return normal + noise(seed + 1, len(normal), level=hiss) if hiss else normal


def pipeline() -> tuple[Pipeline, SlowPath]:
    """A pipeline whose slow path has learned the hum; its threshold is 100 times the hum's score."""
    scorer = linear_scorer()
    scores = [tick.score for block in blocks(sound(0, 3)) for tick in scorer.push(block) if tick.score is not None]
    normal = float(np.median(scores))
    level_db = level(scorer.sounds(), FRONT_END)
    squares = N_BLOCKS * (level_db - level_db.mean()) ** 2
    sums = (tuple((N_BLOCKS * level_db).tolist()), tuple(squares.tolist()))
    state = SlowState((normal,) * N_BLOCKS, *sums, (normal,) * MINUTES)
    slow = SlowPath(tick_s=6.0, segment_ticks=10, typical=normal, limits_hz=FRONT_END.band_limits_hz(), state=state)
    found = Pipeline(
        scorer,
        threshold=100.0 * normal,
        rule=Rule(),
        expected=None,
        identity=IDENTITY,
        anchor=Anchor(utc=START, sample_rate_hz=RATE_HZ, synced=True),
        slow_path=slow,
    )
    return found, slow


def run(machine: Pipeline, signal: F32, *, start: int = 0) -> tuple[list[Result], list[Event]]:
    steps = [step for block in blocks(signal) for step in machine.push(replace(block, start=start + block.start))]
    return steps, [step.event for step in steps if step.event is not None]


WEAK, STRONG = 0.02, 0.2


def test_a_weak_lasting_fault_is_a_warning_that_ends_when_the_median_is_back() -> None:
    machine, slow = pipeline()
    fault = sound(10, 20, hiss=WEAK)
    signal = np.concatenate((sound(5, 5), fault, sound(20, 20)))
    steps, events = run(machine, signal)
    assert max(step.ratio for step in steps if step.ratio is not None) < 1.0  # segments miss it
    first, *updates, last = events
    assert (first.event_type, first.raised_by, first.severity) == ("start", "slow", "warning")
    assert first.bands and first.bands[0].excess_db >= 1.0 and "more than usual at" in first.summary
    onset_s = (first.onset_ts - START).total_seconds()
    assert onset_s == pytest.approx(5 * MINUTE_S, abs=2 * MINUTE_S)
    assert (first.ts - first.onset_ts).total_seconds() < 10 * MINUTE_S
    assert first.ratio >= 1.0 and first.threshold == pytest.approx(
        slow.normal_level.limit if slow.normal_level else 0.0, rel=1e-4
    )
    assert {update.severity for update in updates} == {"warning"}
    assert (last.event_type, last.end_reason) == ("end", "cleared") and last.ratio < 1.0
    assert {event.id for event in events} == {first.id}
    assert [step.state for step in steps][-1] == "normal"
    warned = [step for step in steps if step.state == "anomaly"]
    assert warned and {step.severity for step in warned} == {"warning"}


def test_a_warning_of_the_slow_path_rises_to_an_alarm_and_stays_one_until_both_are_over() -> None:
    machine, _ = pipeline()
    signal = np.concatenate((sound(5, 2), sound(10, 12, hiss=WEAK), sound(30, 6, hiss=STRONG), sound(20, 25)))
    steps, events = run(machine, signal)
    assert [event.event_type for event in events if event.event_type != "update"] == ["start", "end"]
    severities = [event.severity for event in events]
    assert severities[0] == "warning" and severities[-1] == "alarm"
    assert severities == sorted(severities, reverse=True)  # it never falls
    assert {event.raised_by for event in events} == {"slow"}
    raised = next(step.tick.stop for step in steps if step.severity == "alarm")
    risen = next(event for event in events if event.severity == "alarm")
    assert (risen.ts - START).total_seconds() == pytest.approx(raised / RATE_HZ, abs=0.001)  # at once
    over = next(step for step in reversed(steps) if step.state == "anomaly")
    assert over.ratio is not None and over.ratio < 0.9  # the segments had cleared long before


def test_an_event_of_the_segments_pauses_the_slow_path_and_starts_no_second_event() -> None:
    machine, slow = pipeline()
    before = slow.state().minutes
    steps, events = run(machine, np.concatenate((sound(30, 25, hiss=STRONG), sound(20, 20))))
    assert [event.event_type for event in events if event.event_type != "update"] == ["start", "end"]
    assert {event.raised_by for event in events} == {"segments"}
    assert steps[-1].state == "normal"
    assert sum(after > 10 * before[0] for after in slow.state().minutes) <= 4  # until it was raised, and until it cleared


def test_gaps_and_silence_pause_the_slow_path() -> None:
    machine, slow = pipeline()
    run(machine, sound(5, 3.05))
    before = slow.state()
    silence = np.zeros(round(20 * MINUTE_S * RATE_HZ), np.float32)
    steps, _ = run(machine, silence, start=10_000_000)
    assert steps[-1].state == "unknown"
    assert slow.state() == before


def test_a_warning_without_input_is_lost_and_the_next_one_is_another_event() -> None:
    machine, _ = pipeline()
    _, events = run(machine, sound(10, 12, hiss=WEAK))
    assert events[0].event_type == "start"
    step = machine.no_input(round(20 * MINUTE_S * RATE_HZ), "microphone_lost")
    assert step.event is not None and step.event.end_reason == "lost"
    _, again = run(machine, sound(40, 4, hiss=WEAK), start=round(21 * MINUTE_S * RATE_HZ))
    assert again[0].event_type == "start" and again[0].id != events[0].id


def test_the_slow_path_does_not_depend_on_how_sound_is_cut_into_blocks() -> None:
    signal = np.concatenate((sound(5, 2), sound(10, 12, hiss=WEAK)))
    one, other = pipeline()[0], pipeline()[0]
    whole = [step.event for step in one.push(Block(0, signal)) if step.event is not None]
    assert whole and whole == run(other, signal)[1]
