from collections.abc import Iterable
from datetime import datetime, timezone

import numpy as np
import pytest

from monitor.arrays import F32
from monitor.block import Block
from monitor.events.decision import Rule
from monitor.events.event import Anchor, Event, Identity
from monitor.events.pipeline import Pipeline, Result
from monitor.explain.reference import Reference
from monitor.scoring.scorer import score_stream
from tests.scoring.linear import TICK, frames_of, linear_scorer
from tests.signals import blocks, hum, noise

START = datetime(2026, 11, 21, 10, tzinfo=timezone.utc)
IDENTITY = Identity(node="pi", machine="fan", bundle="demo@1", session="s")


def quiet_and_loud(seconds: list[tuple[float, bool]]) -> F32:
    """Normal sound, with a loud hiss on top where told."""
    parts = []
    for i, (length, loud) in enumerate(seconds):
        sound = hum(i, round(length * 16000))
        parts.append(sound + noise(100 + i, len(sound), level=0.2) if loud else sound)
    return np.concatenate(parts)


NORMAL = quiet_and_loud([(20, False)])


def make_pipeline(*, segment_ticks: int = 10, tick_margin: float | None = None, alarm_margin: float | None = None) -> Pipeline:
    scorer = linear_scorer(segment_ticks=segment_ticks)
    frames = frames_of(blocks(NORMAL))
    score_stream(scorer, blocks(NORMAL))
    normal = scorer.file_score()
    assert normal is not None
    return Pipeline(
        scorer,
        threshold=1.5 * normal,
        alarm_threshold=None if alarm_margin is None else alarm_margin * normal,
        tick_threshold=None if tick_margin is None else tick_margin * normal,
        rule=Rule(),
        expected=Reference(frames.mean(axis=0), np.full(64, 0.5, np.float32)),
        identity=IDENTITY,
        anchor=Anchor(utc=START, sample_rate_hz=16000, synced=True),
    )


def run(signal: F32 | Iterable[Block], pipeline: Pipeline | None = None) -> tuple[list[Result], list[Event]]:
    pipeline = pipeline or make_pipeline()
    parts = blocks(signal) if isinstance(signal, np.ndarray) else signal
    steps = [step for part in parts for step in pipeline.push(part)] + list(pipeline.flush())
    events = [step.event for step in steps if step.event is not None]
    last = pipeline.close("shutdown")
    return steps, events + ([last] if last else [])


def states(steps: list[Result]) -> list[tuple[str, str | None]]:
    """The states gone through, each once."""
    seen = [(step.state, step.reason) for step in steps]
    return [state for i, state in enumerate(seen) if i == 0 or state != seen[i - 1]]


def seconds(moment: datetime) -> float:
    return (moment - START).total_seconds()


def test_normal_sound_gives_no_event() -> None:
    steps, events = run(quiet_and_loud([(120, False)]))
    assert states(steps) == [("starting", None), ("normal", None)]
    assert events == []
    assert steps[4].ratio is not None
    assert steps[3].ratio is None


def test_a_fault_gives_one_event_with_a_start_an_update_and_an_end() -> None:
    steps, events = run(quiet_and_loud([(40, False), (70, True), (60, False)]))
    assert states(steps) == [("starting", None), ("normal", None), ("anomaly", None), ("normal", None)]
    assert [(event.event_type, event.seq, event.end_reason) for event in events] == [
        ("start", 0, None),
        ("update", 1, None),
        ("end", 2, "cleared"),
    ]
    assert len({event.id for event in events}) == 1
    start, update, end = events
    assert seconds(start.onset_ts) == pytest.approx(40, abs=1.1)
    assert {event.onset_ts for event in events} == {start.onset_ts}
    assert 51 < seconds(start.ts) < 56  # 12 segments above the threshold later
    assert seconds(update.ts) - seconds(start.ts) == pytest.approx(60, abs=1.1)
    assert end.duration_s == pytest.approx(70, abs=2.1)
    assert seconds(end.ts) == pytest.approx(40 + 70 + 10 + 20, abs=2.1)
    assert start.ratio >= 1.0
    assert end.peak_ratio >= update.peak_ratio >= start.peak_ratio >= start.ratio
    assert end.ratio < 0.9
    assert {(event.node, event.machine, event.bundle) for event in events} == {("pi", "fan", "demo@1")}


def test_an_event_says_where_in_frequency_the_sound_differs() -> None:
    t = np.arange(60 * 16000) / 16000
    signal = hum(1, len(t)) + np.where(t > 20, 0.02 * np.sin(2 * np.pi * 3000 * t), 0.0).astype(np.float32)
    _, (start, *_) = run(signal)
    (band,) = [band for band in start.bands if band.low_hz <= 3000 <= band.high_hz]
    assert start.bands[0] == band
    assert band.excess_db > 15
    assert start.summary.startswith(f"{band.excess_db:.0f} dB more than usual at {band.low_hz / 1000:.1f}-")


@pytest.mark.parametrize("at", [20.0, 30.3, 41.7])
def test_one_bang_does_not_raise(at: float) -> None:
    signal = quiet_and_loud([(80, False)])
    bang = slice(round(at * 16000), round((at + 0.4) * 16000))
    signal[bang] += noise(9, bang.stop - bang.start, level=0.3)
    steps, events = run(signal)
    assert sum(step.ratio is not None and step.ratio >= 1 for step in steps) >= 10  # it was heard
    assert events == []


def test_sound_that_ends_with_an_anomaly_ends_the_event() -> None:
    _, events = run(quiet_and_loud([(40, False), (40, True)]))
    assert [(event.event_type, event.end_reason) for event in events] == [("start", None), ("end", "shutdown")]
    assert seconds(events[-1].ts) == pytest.approx(80, abs=0.1)


def test_silence_is_unknown_and_never_normal() -> None:
    signal = quiet_and_loud([(30, False), (40, False), (30, False)])
    signal[30 * 16000 : 70 * 16000] = 0.0
    steps, events = run(signal)
    assert states(steps) == [("starting", None), ("normal", None), ("unknown", "silent"), ("normal", None)]
    assert events == []
    deaf = [step for step in steps if step.tick.reason == "silent"]
    assert all(step.ratio is None for step in deaf)
    assert all(step.state == "unknown" for step in deaf[4:])


def test_silence_from_the_start_is_unknown() -> None:
    steps, _ = run(np.zeros(30 * 16000, np.float32))
    assert states(steps) == [("starting", None), ("unknown", "silent")]


def test_an_open_event_is_lost_after_a_minute_of_silence() -> None:
    signal = quiet_and_loud([(30, False), (30, True), (80, False)])
    signal[60 * 16000 :] = 0.0
    steps, events = run(signal)
    assert [(event.event_type, event.end_reason) for event in events] == [("start", None), ("end", "lost")]
    assert seconds(events[-1].ts) == pytest.approx(120, abs=2.2)
    assert states(steps)[-1] == ("unknown", "silent")


def test_an_open_event_survives_a_short_silence() -> None:
    signal = quiet_and_loud([(30, False), (60, True), (60, False)])
    signal[50 * 16000 : 70 * 16000] = 0.0
    _, events = run(signal)
    assert [event.end_reason for event in events if event.event_type == "end"] == ["cleared"]
    assert len({event.id for event in events}) == 1


def test_an_open_event_is_lost_over_a_long_gap() -> None:
    signal = quiet_and_loud([(30, False), (30, True), (30, False)])
    cut = 60 * 16000
    steps, events = run([Block(0, signal[:cut]), Block(cut + 100 * 16000, signal[cut:])])
    assert [(event.event_type, event.end_reason) for event in events] == [("start", None), ("end", "lost")]
    assert states(steps) == [("starting", None), ("normal", None), ("anomaly", None), ("unknown", "gap"), ("normal", None)]


def test_the_same_identity_and_onset_give_the_same_id_and_others_do_not() -> None:
    same = Identity(node="pi", machine="fan", bundle="demo@1", session="s")
    assert same.event_id(TICK) == IDENTITY.event_id(TICK)
    others = {
        IDENTITY.event_id(TICK + 1),
        Identity(node="pi", machine="fan", bundle="demo@2", session="s").event_id(TICK),
        Identity(node="pi", machine="pump", bundle="demo@1", session="s").event_id(TICK),
        Identity(node="pi", machine="fan", bundle="demo@1", session="t").event_id(TICK),
    }
    assert len(others | {IDENTITY.event_id(TICK)}) == 5


def test_a_tick_that_passes_by_chance_is_not_the_onset() -> None:
    signal = quiet_and_loud([(40, False), (40, True)])
    click = slice(round(33.3 * 16000), round(33.35 * 16000))
    signal[click] += noise(9, click.stop - click.start, level=0.05)
    steps, (start, *_) = run(signal)
    chance = next(step for step in steps if step.tick.start <= click.start < step.tick.stop)
    assert chance.tick.tick_score is not None
    assert chance.tick.tick_score >= start.threshold  # it did pass
    assert seconds(start.onset_ts) == pytest.approx(40, abs=1.1)


def test_a_machine_that_is_broken_from_the_start_is_never_called_normal() -> None:
    steps, events = run(quiet_and_loud([(60, True)]))
    assert states(steps) == [("starting", None), ("starting", "over_threshold"), ("anomaly", None)]
    assert [event.event_type for event in events] == ["start", "end"]


def test_ticks_that_pass_by_chance_after_a_repair_do_not_lengthen_an_anomaly() -> None:
    signal = quiet_and_loud([(40, False), (40, True), (60, False)])
    click = slice(round(95.3 * 16000), round(95.35 * 16000))  # no segment passes with it alone
    signal[click] += noise(9, click.stop - click.start, level=0.05)
    steps, events = run(signal)
    chance = next(step for step in steps if step.tick.start <= click.start < step.tick.stop)
    assert chance.tick.tick_score is not None
    assert chance.tick.tick_score >= events[0].threshold
    assert chance.ratio is not None
    assert chance.ratio < 1
    assert events[-1].end_reason == "cleared"
    assert events[-1].duration_s == pytest.approx(40, abs=2.1)


def test_ticks_have_a_threshold_of_their_own() -> None:
    signal = quiet_and_loud([(40, False), (30, True), (40, False)])
    events = run(signal, make_pipeline(tick_margin=1.6))[1]
    assert seconds(events[0].onset_ts) == pytest.approx(40, abs=1.1)
    assert events[-1].duration_s == pytest.approx(30, abs=2.1)
    deaf = run(signal, make_pipeline(tick_margin=1e9))[1]  # no tick ever passes, which changes no decision
    assert [(event.event_type, event.ts) for event in deaf] == [(event.event_type, event.ts) for event in events]
    assert deaf[-1].duration_s == pytest.approx(1.024)


def test_an_anomaly_after_another_has_its_own_onset() -> None:
    signal = quiet_and_loud([(40, False), (30, True), (36, False), (40, True)])
    _, events = run(signal)
    starts = [event for event in events if event.event_type == "start"]
    assert [seconds(start.onset_ts) for start in starts] == [pytest.approx(40, abs=1.1), pytest.approx(106, abs=1.1)]
    assert len({start.id for start in starts}) == 2


def test_an_update_on_the_way_back_keeps_the_bands_of_the_fault() -> None:
    t = np.arange(140 * 16000) / 16000
    tone = 0.02 * np.sin(2 * np.pi * 3000 * t) * ((t > 20) & (t < 80))
    _, events = run(hum(1, len(t)) + tone.astype(np.float32))
    late = [event for event in events if event.ratio < 1.0]
    assert late
    assert all(any(band.low_hz < 3000 < band.high_hz for band in event.bands) for event in late)


def test_after_a_lost_event_the_state_is_unknown_until_a_segment_is_heard() -> None:
    signal = quiet_and_loud([(30, False), (30, True), (30, True)])
    cut = 60 * 16000
    steps, events = run([Block(0, signal[:cut]), Block(cut + 100 * 16000, signal[cut:])])
    assert [event.end_reason for event in events if event.event_type == "end"] == ["lost", "shutdown"]
    after = [step for step in steps if step.tick.start >= cut + 100 * 16000]
    raised = next(i for i, step in enumerate(after) if step.state == "anomaly")
    assert {step.state for step in after[:raised]} == {"unknown"}
    onsets = [seconds(event.onset_ts) for event in events if event.event_type == "start"]
    assert onsets[1] >= 160  # what came before the gap belongs to the event that was lost


def test_a_lost_event_leaves_no_anomaly_behind_however_long_a_segment_is() -> None:
    signal = quiet_and_loud([(150, True), (90, False)])
    signal[150 * 16000 :] = 0.0
    steps, events = run(signal, make_pipeline(segment_ticks=200))
    assert events[-1].end_reason == "lost"
    lost = next(i for i, step in enumerate(steps) if step.event is not None and step.event.end_reason == "lost")
    assert {step.state for step in steps[lost:]} == {"unknown"}
