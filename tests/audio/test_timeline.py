"""The timeline: crystals drift, clocks are set, and the time between two samples stays as it was."""

from datetime import datetime, timedelta, timezone

import pytest

from monitor.audio.timeline import MAX_PPM, Timeline

RATE_HZ, T0, UTC0 = 16000, 1000.0, 1_800_000_000.0


def made() -> Timeline:
    return Timeline(sample_rate_hz=RATE_HZ, monotonic_s=T0, utc_s=UTC0, synced=True)


def utc_s(timeline: Timeline, sample: int) -> float:
    return timeline.at(sample).timestamp()


def listen(timeline: Timeline, *, from_s: int, to_s: int, slower: float = 0.0, utc_off_s: float = 0.0) -> list[float]:
    """A device by which a second of samples takes 1 + slower seconds; returns the errors of at() each second."""
    errors = []
    for second in range(from_s, to_s):
        now = T0 + second
        sample = round(second * RATE_HZ / (1 + slower))
        timeline.arrived(sample, now + 0.001 * (second % 3))
        timeline.set_utc(UTC0 + second + utc_off_s, monotonic_s=now, synced=True)
        errors.append(utc_s(timeline, sample) - (UTC0 + second + utc_off_s))
    return errors


def test_without_drift_it_is_a_straight_line() -> None:
    timeline = made()
    listen(timeline, from_s=1, to_s=600)
    assert timeline.at(RATE_HZ) == datetime.fromtimestamp(UTC0 + 1, timezone.utc)
    assert timeline.sample_at(T0 + 100) == 100 * RATE_HZ


@pytest.mark.parametrize("slower", [-200e-6, -20e-6, 100e-6, 200e-6])
def test_it_follows_a_drifting_crystal_for_hours(slower: float) -> None:
    errors = listen(made(), from_s=1, to_s=6 * 3600, slower=slower)
    assert max(map(abs, errors)) < 0.02  # while it learns
    assert max(map(abs, errors[600:])) < 0.006


def test_it_is_never_bent_by_more_than_it_may() -> None:
    timeline = made()
    listen(timeline, from_s=1, to_s=300, utc_off_s=0.3)  # an error below a step, to be slewed away
    seconds = [utc_s(timeline, (at + 1) * RATE_HZ) - utc_s(timeline, at * RATE_HZ) for at in range(299)]
    assert max(abs(second - 1) for second in seconds) <= MAX_PPM * 1.01e-6
    errors = listen(timeline, from_s=300, to_s=1500, utc_off_s=0.3)
    assert abs(errors[-1]) < 0.006


def test_what_has_been_told_stays_as_it_was() -> None:
    timeline = made()
    told = {}
    for from_s in range(1, 2000, 50):
        listen(timeline, from_s=from_s, to_s=from_s + 50, slower=150e-6)
        told[from_s * RATE_HZ - 999] = timeline.at(from_s * RATE_HZ - 999)
    assert {sample: timeline.at(sample) for sample in told} == told
    step_s = timeline.set_utc(UTC0 + 5000.0, monotonic_s=T0 + 2001, synced=True)
    assert step_s is not None
    moved = {sample: timeline.at(sample).timestamp() - at.timestamp() for sample, at in told.items()}
    assert max(moved.values()) - min(moved.values()) < 1e-3
    assert moved[15_001] == pytest.approx(step_s, abs=1e-3)


def test_a_clock_that_was_set_is_followed_at_once_and_said_once() -> None:
    timeline = made()
    listen(timeline, from_s=1, to_s=100)
    before = timeline.at(99 * RATE_HZ)
    assert timeline.set_utc(UTC0 + 100 + 3600, monotonic_s=T0 + 100, synced=False) == pytest.approx(3600, abs=0.01)
    assert timeline.set_utc(UTC0 + 101 + 3600, monotonic_s=T0 + 101, synced=False) is None
    assert utc_s(timeline, 102 * RATE_HZ) == pytest.approx(UTC0 + 102 + 3600, abs=0.01)
    assert timeline.at(99 * RATE_HZ) - before == timedelta(hours=1)  # the sound between them lasted as long as before
    assert not timeline.synced
    assert timeline.sample_at(T0 + 100) == 100 * RATE_HZ  # the index does not care


def test_it_runs_on_while_nothing_is_heard() -> None:
    timeline = made()
    listen(timeline, from_s=1, to_s=900, slower=100e-6)
    now = timeline.sample_at(T0 + 36_000)
    assert now == pytest.approx(36_000 * RATE_HZ / (1 + 100e-6), abs=0.6 * RATE_HZ)
    assert utc_s(timeline, now) == pytest.approx(UTC0 + 36_000, abs=0.6)


def test_times_never_go_back_while_the_clock_is_only_disciplined() -> None:
    timeline = made()
    listen(timeline, from_s=1, to_s=500, slower=-400e-6)
    times = [timeline.at(sample) for sample in range(0, 500 * RATE_HZ, 1000)]
    assert times == sorted(times)
