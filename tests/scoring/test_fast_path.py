"""The fast path: a scream is reported within three seconds, a bang is not reported."""

import numpy as np
import pytest

from monitor.arrays import F32
from monitor.block import Block
from monitor.errors import ConfigError
from monitor.events.decision import Rule
from monitor.events.event import Anchor, Event
from monitor.events.pipeline import Pipeline
from monitor.explain.reference import Reference
from monitor.scoring.fast_path import Fast, fit_fast, frequent_frame, frequent_frames, lasting_frame
from monitor.scoring.scorer import score_stream
from tests.events.test_pipeline import IDENTITY, START, make_pipeline, run, seconds, states
from tests.scoring.linear import FRONT_END, TICK, frames_of, linear_scorer
from tests.signals import blocks, even_blocks, hum, noise

LIMITS_HZ = FRONT_END.band_limits_hz()
NORMAL = hum(0, 60 * 16000)
RMS = float(np.sqrt(np.mean(NORMAL**2)))


def learned() -> Fast:
    fast = fit_fast(frequent_frames(frames_of(blocks(NORMAL)), tick_frames=32), limits_hz=LIMITS_HZ)
    assert fast is not None
    return fast


FAST = learned()


def listening(
    *,
    segment_threshold: float | None = None,
    alarm_threshold: float | None = None,
    fast_threshold: float = FAST.threshold_db,
    idle_below_dbfs: float | None = None,
) -> Pipeline:
    """A pipeline with the fast path; with a high threshold for segments nothing else ever raises."""
    frames = frames_of(blocks(NORMAL))
    scorer = linear_scorer()
    score_stream(scorer, blocks(NORMAL))
    normal = scorer.file_score()
    assert normal is not None
    scorer.ceiling_db = FAST.ceiling_db
    scorer.idle_below_dbfs = idle_below_dbfs
    return Pipeline(
        scorer,
        threshold=segment_threshold or 1.5 * normal,
        alarm_threshold=alarm_threshold,
        fast_threshold=fast_threshold,
        rule=Rule(),
        expected=Reference(frames.mean(axis=0), np.full(64, 0.5, np.float32)),
        identity=IDENTITY,
        anchor=Anchor(utc=START, sample_rate_hz=16000, synced=True),
        idle_is_anomaly=idle_below_dbfs is not None,
    )


def scream(kind: str, n: int, *, db: float) -> F32:
    """A steady sound, so many dB over the machine."""
    t = np.arange(n) / 16000
    sound = noise(5, n, level=1.0) if kind == "hiss" else np.sqrt(2) * np.sin(2 * np.pi * float(kind) * t)
    return np.asarray(RMS * 10 ** (db / 20) * sound, np.float32)


def with_scream(length_s: float, start: int, stop: int, *, kind: str = "2400", db: float = 20.0) -> F32:
    signal = hum(9, round(length_s * 16000))
    stop = min(stop, len(signal))
    signal[start:stop] += scream(kind, stop - start, db=db)
    return signal


def starts(events: list[Event]) -> list[Event]:
    return [event for event in events if event.event_type == "start"]


@pytest.mark.parametrize("kind", ["hiss", "180", "2400", "7100"])
@pytest.mark.parametrize("eighths", range(8))
def test_a_scream_is_reported_within_three_seconds_wherever_in_a_tick_it_begins(kind: str, eighths: int) -> None:
    onset = 12 * TICK + eighths * TICK // 8 + 100
    (start,) = starts(run(with_scream(20, onset, 10**9, kind=kind, db=15.0), listening(segment_threshold=1e9))[1])
    assert seconds(start.ts) - onset / 16000 <= 2.6
    assert seconds(start.onset_ts) == pytest.approx(onset / 16000, abs=0.6)
    assert start.raised_by == "fast"


@pytest.mark.parametrize("length_s", [0.05, 0.3, 0.6, 1.2])
@pytest.mark.parametrize("sixths", range(6))
def test_a_bang_is_not_reported_wherever_in_a_tick_it_begins(length_s: float, sixths: int) -> None:
    onset = 12 * TICK + sixths * TICK // 6
    signal = with_scream(20, onset, onset + round(length_s * 16000), kind="hiss", db=15.0)
    assert run(signal, listening())[1] == []


def test_normal_sound_stays_far_below() -> None:
    scorer = linear_scorer()
    scorer.ceiling_db = FAST.ceiling_db
    ticks = list(scorer.push(Block(0, hum(77, 300 * 16000))))
    excesses = [tick.excess_db for tick in ticks if tick.excess_db is not None]
    assert len(excesses) == len(ticks) - 1
    assert max(excesses) < FAST.threshold_db - 6.0


def test_an_event_of_the_fast_path_has_its_own_numbers_and_bands() -> None:
    signal = with_scream(40, 16 * TICK, 10**9)
    start = starts(run(signal, listening())[1])[0]
    assert start.threshold == FAST.threshold_db
    assert start.score is not None
    assert start.ratio == pytest.approx(start.score / start.threshold, abs=1e-3)
    assert start.peak_ratio == start.ratio > 1
    assert start.duration_s == pytest.approx(2 * 1.024)
    assert start.bands[0].low_hz < 2400 < start.bands[0].high_hz
    assert start.bands[0].excess_db > 20


def test_a_scream_is_one_event_whichever_rules_see_it_and_ends_when_all_is_normal_again() -> None:
    onset, stop = 16 * TICK, 16 * TICK + 70 * 16000
    steps, events = run(with_scream(140, onset, stop), listening())
    assert [(event.event_type, event.end_reason) for event in events] == [("start", None), ("update", None), ("end", "cleared")]
    assert {event.raised_by for event in events} == {"fast"}
    assert len({event.id for event in events}) == 1
    assert events[1].threshold != events[0].threshold  # of segments, as its score
    assert events[2].duration_s == pytest.approx(70, abs=1.1)
    assert seconds(events[2].ts) == pytest.approx(stop / 16000 + 10 + 20, abs=2.1)
    assert states(steps) == [("starting", None), ("normal", None), ("anomaly", None), ("normal", None)]


def test_a_scream_keeps_its_event_open_when_segments_do_not_show_it() -> None:
    stop = 16 * TICK + 70 * 16000
    _, events = run(with_scream(140, 16 * TICK, stop), listening(segment_threshold=1e9))
    assert [event.event_type for event in events] == ["start", "update", "end"]
    assert seconds(events[-1].ts) == pytest.approx(stop / 16000 + 20, abs=2.1)


def test_a_short_scream_is_an_event_that_ends() -> None:
    _, events = run(with_scream(80, 16 * TICK, 20 * TICK), listening())
    assert [(event.event_type, event.end_reason) for event in events] == [("start", None), ("end", "cleared")]


def test_a_machine_that_screams_from_the_start_is_reported_before_a_segment_has_a_score() -> None:
    signal = with_scream(20, 0, 10**9)
    steps, events = run(signal, listening())
    assert states(steps) == [("starting", None), ("anomaly", None)]
    assert steps[1].ratio is None
    assert seconds(events[0].ts) == pytest.approx(2 * 1.024)
    assert [event.end_reason for event in events] == [None, "shutdown"]


def test_a_recording_shorter_than_a_segment_can_hold_an_event() -> None:
    _, events = run(with_scream(4, 0, 10**9), listening())
    assert [(event.event_type, event.threshold) for event in events] == [
        ("start", FAST.threshold_db),
        ("end", FAST.threshold_db),
    ]


def test_two_loud_ticks_on_both_sides_of_a_gap_are_not_two_seconds_of_it() -> None:
    signal = with_scream(20, 14 * TICK, 15 * TICK)
    cut = 15 * TICK
    later = hum(3, 20 * 16000)
    later[: TICK + 512] += scream("2400", TICK + 512, db=20.0)
    assert run([Block(0, signal[:cut]), Block(cut + TICK, later)], listening(segment_threshold=1e9))[1] == []


def test_a_weak_fault_is_left_to_the_segments() -> None:
    signal = with_scream(80, 30 * 16000, 10**9, kind="hiss", db=-12.0)
    start = starts(run(signal, listening())[1])[0]
    assert start.raised_by == "segments"
    assert seconds(start.ts) > 40


def test_an_excess_of_exactly_the_threshold_is_an_alarm() -> None:
    signal = with_scream(30, 16 * TICK, 10**9)
    steps, _ = run(signal, listening(segment_threshold=1e9))
    largest_db = max(step.tick.excess_db for step in steps if step.tick.excess_db is not None)
    (start, *_) = starts(run(signal, listening(segment_threshold=1e9, fast_threshold=largest_db))[1])
    assert (start.severity, start.ratio) == ("alarm", 1.0)
    assert start.threshold == pytest.approx(largest_db, abs=1e-6)
    assert run(signal, listening(segment_threshold=1e9, fast_threshold=1.001 * largest_db))[1] == []


def test_without_a_threshold_there_is_no_fast_path() -> None:
    steps, events = run(with_scream(40, 16 * TICK, 10**9), make_pipeline())
    assert starts(events)[0].raised_by == "segments"
    assert all(step.tick.excess_db is None for step in steps)


def test_a_scream_and_a_machine_that_is_off_are_each_reported_where_silence_is_an_anomaly() -> None:
    off = noise(7, 80 * 16000, level=0.0005)
    signal = np.concatenate((with_scream(30, 16 * TICK, 20 * TICK), hum(4, 60 * 16000), off))
    found = starts(run(signal, listening(idle_below_dbfs=-50.0))[1])
    assert [(event.raised_by, event.score is None) for event in found] == [("fast", False), ("segments", True)]


def test_any_block_size_gives_the_same_events() -> None:
    signal = with_scream(30, 16 * TICK + 3000, 20 * TICK)
    whole = run(signal, listening())[1]
    assert len(whole) == 2
    assert run(even_blocks(signal, 1601), listening())[1] == whole


def test_lasting_is_what_three_quarters_of_the_frames_reach() -> None:
    frames = np.zeros((64, 2), np.float32)
    frames[:48, 0] = 30.0
    frames[:47, 1] = 30.0
    assert lasting_frame(frames).tolist() == [30.0, 0.0]


def test_bangs_that_take_up_half_the_time_lift_no_lasting_frame_over_the_frequent_one() -> None:
    rng = np.random.default_rng(2)
    frames = rng.normal(-50.0, 8.0, (64, 40)).astype(np.float32)
    banged = frames.copy()
    banged[rng.permutation(64)[:32]] = 0.0
    assert (lasting_frame(banged) <= frequent_frame(frames)).all()


def test_frequent_frames_are_of_whole_neighbouring_ticks() -> None:
    frames = np.repeat(np.arange(4, dtype=np.float32), 32)[:, None]
    assert frequent_frames(frames[:-1], tick_frames=32).tolist() == [[1.0], [2.0]]
    assert frequent_frames(frames[:63], tick_frames=32).shape == (0, 1)


def test_the_scorer_gives_the_same_as_the_function_for_whole_recordings() -> None:
    scorer = linear_scorer()
    heard = [scorer.frequent_frame() for tick in scorer.extract(Block(0, NORMAL)) if scorer.score_tick(tick)]
    rows = [row for row in heard if row is not None]
    assert np.array_equal(rows, frequent_frames(frames_of([Block(0, NORMAL)]), tick_frames=32)[: len(rows)])
    assert heard[0] is None


def test_the_ceiling_is_the_loudest_but_no_lower_than_ten_db_under_the_machine() -> None:
    rows = np.full((50, 64), -60.0, np.float32)
    rows[:, 10:20] = -20.0
    rows[7, 40] = -25.0
    fast = fit_fast(rows, limits_hz=LIMITS_HZ)
    assert fast is not None
    width = (LIMITS_HZ[20] - LIMITS_HZ[10]) * 10**-2.0 + (LIMITS_HZ[41] - LIMITS_HZ[40]) * 10**-2.5
    level_db = 10 * np.log10(width / 8000.0 + 1e-6)
    assert fast.ceiling_db[15] == pytest.approx(-20.0)
    assert fast.ceiling_db[40] == pytest.approx(-25.0)
    assert fast.ceiling_db[50] == pytest.approx(level_db - 10.0, abs=0.2)


def test_the_threshold_stays_clear_of_what_a_part_of_the_sound_has_over_the_rest() -> None:
    rows = np.random.default_rng(0).normal(-40.0, 0.5, (100, 64)).astype(np.float32)
    steady = fit_fast(rows, limits_hz=LIMITS_HZ)
    rows[60:63, 30] += 14.0
    moody = fit_fast(rows, limits_hz=LIMITS_HZ)
    assert steady is not None
    assert moody is not None
    assert steady.threshold_db == 10.0
    assert 15.0 < moody.threshold_db < 18.0


def test_too_little_sound_gives_no_fast_path() -> None:
    assert fit_fast(np.zeros((1, 64), np.float32), limits_hz=LIMITS_HZ) is None
    assert fit_fast(np.zeros((2, 64), np.float32), limits_hz=LIMITS_HZ) is not None
    with pytest.raises(ConfigError, match="limits_hz must hold 65 values, got 3"):
        fit_fast(np.zeros((9, 64), np.float32), limits_hz=LIMITS_HZ[:3])
