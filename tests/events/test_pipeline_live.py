"""The pipeline with live sound: a machine that is off, a lost microphone, a clock that is set."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from monitor.arrays import F32
from monitor.audio.timeline import Timeline
from monitor.block import Block
from monitor.events.decision import Rule
from monitor.events.event import Anchor
from monitor.events.onset import Anomaly
from monitor.events.pipeline import Pipeline
from tests.events.test_pipeline import IDENTITY, NORMAL, START, make_pipeline, quiet_and_loud, run, seconds, states
from tests.scoring.linear import TICK, linear_scorer
from tests.signals import blocks, noise


def off(n_s: int) -> F32:
    """A machine that is off: the room's noise, 40 dB below it."""
    return noise(7, n_s * 16000, level=0.0005)


def with_idle(*, is_anomaly: bool = False, below_dbfs: float = -50.0) -> Pipeline:
    reference = linear_scorer()
    reference.reset()
    for _ in reference.push(Block(0, NORMAL)):
        pass
    normal = reference.file_score()
    assert normal is not None
    scorer = linear_scorer()
    scorer.idle_below_dbfs = below_dbfs
    return Pipeline(
        scorer,
        threshold=1.5 * normal,
        rule=Rule(),
        expected=None,
        identity=IDENTITY,
        anchor=Anchor(utc=START, sample_rate_hz=16000, synced=True),
        idle_is_anomaly=is_anomaly,
    )


def test_a_machine_that_is_off_is_idle_and_not_scored() -> None:
    signal = np.concatenate((NORMAL, off(40), NORMAL))
    steps, events = run(signal, with_idle())
    assert states(steps) == [
        *(("starting", None), ("normal", None), ("idle", None)),
        *(("unknown", "over_threshold"), ("normal", None)),  # the tick in which it is switched on is half of each
    ]
    assert all(step.ratio is None for step in steps if step.tick.reason == "idle")
    assert events == []


def test_a_machine_that_was_never_on_is_idle() -> None:
    steps, _ = run(off(30), with_idle())
    assert states(steps) == [("starting", None), ("idle", None)]


def test_silence_can_itself_be_the_anomaly() -> None:
    steps, events = run(np.concatenate((NORMAL, off(40), NORMAL, NORMAL)), with_idle(is_anomaly=True))
    assert [event.event_type for event in events] == ["start", "end"]
    start, end = events
    assert start.score is None
    assert start.ratio == pytest.approx(10 ** ((-50.0 - start.rms_dbfs) / 20), rel=0.01)
    assert start.summary == f"the machine is not heard: {start.rms_dbfs:.0f} dBFS, expected at least -50"
    assert seconds(start.onset_ts) == pytest.approx(20.0, abs=1.1)
    assert end.end_reason == "cleared"
    assert (start.severity, end.severity) == ("alarm", "alarm")
    assert "idle" not in {step.state for step in steps}


def test_the_ratio_of_silence_is_limited() -> None:
    """The room is at -66 dBFS or -86 dBFS, and the machine is expected at -20 dBFS at least."""
    for level, ratio in ((0.0005, 200.0), (0.00005, 1000.0)):
        steps, _ = run(noise(7, 20 * 16000, level=level), with_idle(is_anomaly=True, below_dbfs=-20.0))
        assert [step.ratio for step in steps[:-1]] == [pytest.approx(ratio, rel=0.05)] * (len(steps) - 1)


def test_without_input_a_machine_is_unknown_at_once_and_scored_again_within_a_segment() -> None:
    pipeline = make_pipeline()
    for _ in pipeline.push(Block(0, NORMAL)):
        pass
    gone = pipeline.no_input(len(NORMAL) + 16000, "microphone_lost")
    assert (gone.state, gone.reason, gone.ratio, gone.event) == ("unknown", "microphone_lost", None, None)
    assert gone.tick.n_ticks == 0
    back_at = len(NORMAL) + 50 * 16000
    back = [step for block in blocks(NORMAL, [5 * 16000]) for step in pipeline.push(Block(back_at + block.start, block.samples))]
    assert states(back) == [("unknown", "gap"), ("normal", None)]
    first_normal = next(step for step in back if step.state == "normal")
    assert (first_normal.tick.stop - back_at) / 16000 <= 15.0


def test_an_open_anomaly_survives_a_short_loss_of_input_and_is_lost_after_a_minute() -> None:
    pipeline = make_pipeline()
    loud = quiet_and_loud([(20, False), (40, True)])
    events = [step.event for step in pipeline.push(Block(0, loud)) if step.event]
    assert [event.event_type for event in events] == ["start"]
    for after_s in (1, 30, 58):
        assert pipeline.no_input(len(loud) + after_s * 16000, "microphone_frozen").event is None
    lost = pipeline.no_input(len(loud) + 61 * 16000, "microphone_frozen")
    assert lost.event is not None
    assert (lost.event.event_type, lost.event.end_reason, lost.event.id) == ("end", "lost", events[0].id)
    assert pipeline.no_input(len(loud) + 62 * 16000, "microphone_frozen").event is None


def test_counters_freeze_without_input() -> None:
    """A fault that goes on behind a short loss raises when 12 segments have passed, not from nothing again."""
    pipeline = make_pipeline()
    calm, loud = quiet_and_loud([(20, False)]), quiet_and_loud([(8, True)])
    steps = list(pipeline.push(Block(0, np.concatenate((calm, loud)))))
    assert not any(step.event for step in steps)
    passed = sum((step.ratio or 0.0) >= 1.0 for step in steps)
    assert 0 < passed < 12
    again = list(pipeline.push(Block(len(calm) + len(loud) + 3 * TICK, quiet_and_loud([(30, True)]))))
    until = next(i for i, step in enumerate(again) if step.event)
    assert passed + sum((step.ratio or 0.0) >= 1.0 for step in again[: until + 1]) == 12


def real_clock() -> Timeline:
    return Timeline(sample_rate_hz=16000, monotonic_s=0.0, utc_s=START.timestamp(), synced=False)


def set_clock(clock: Timeline, at_s: float, step: timedelta) -> None:
    assert clock.set_utc((clock.at(round(at_s * 16000)) + step).timestamp(), monotonic_s=at_s, synced=True) is not None


@pytest.mark.parametrize("step", [timedelta(days=365), timedelta(seconds=-2)])
def test_the_onset_of_an_open_event_moves_with_the_clock_when_it_is_set(step: timedelta) -> None:
    clock = real_clock()
    pipeline = make_pipeline(anchor=clock)
    loud = quiet_and_loud([(20, False), (40, True)])
    (start,) = [result.event for result in pipeline.push(Block(0, loud)) if result.event]
    set_clock(clock, 60.0, step)
    later = pipeline.push(Block(len(loud), quiet_and_loud([(80, True)])))
    events = [result.event for result in later if result.event]
    end = pipeline.close("shutdown")
    assert end is not None
    assert len(events) >= 1
    for event in [*events, end]:
        assert event.onset_ts - start.onset_ts == step
        assert timedelta(seconds=40) < event.ts - event.onset_ts < timedelta(seconds=122)
    assert (start.clock_synced, end.clock_synced) == (False, True)


def test_the_clock_may_be_set_between_the_onset_and_the_first_event() -> None:
    clock = real_clock()
    pipeline = make_pipeline(anchor=clock)
    begun = quiet_and_loud([(20, False), (6, True)])
    assert not any(result.event for result in pipeline.push(Block(0, begun)))
    set_clock(clock, 26.0, timedelta(days=365))
    more = pipeline.push(Block(len(begun), quiet_and_loud([(30, True)])))
    (start,) = [result.event for result in more if result.event]
    assert start.onset_ts - START - timedelta(days=365, seconds=20) < timedelta(seconds=1.1)
    assert timedelta(seconds=10) < start.ts - start.onset_ts < timedelta(seconds=30)


class FastCrystal:
    """Samples that arrive 200 ppm too fast for UTC."""

    sample_rate_hz = 16000
    synced = True

    def at(self, sample: int) -> datetime:
        return START + timedelta(seconds=sample / 16000 * (1 - 2e-4))


def test_the_onset_does_not_move_however_far_samples_and_time_drift_apart() -> None:
    anomaly = Anomaly(start=0, last_stop=0, peak_ratio=1.0, severity="warning")
    times = [anomaly.set_times(second * 16000, FastCrystal()) for second in range(13, 7200, 60)]
    assert {onset for _, onset in times} == {START}
    assert times[-1][0] < START + timedelta(seconds=7200 - 1)
