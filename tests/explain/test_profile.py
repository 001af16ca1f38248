"""Profiles of a stream, the reference that is fitted to them, and which level a sound is compared by."""

from dataclasses import replace

import numpy as np
import pytest

from monitor.block import Block
from monitor.errors import ConfigError
from monitor.explain.describe import comparable_level
from monitor.explain.profile import Profiler, SegmentProfile, level
from monitor.explain.reference import Reference, contrast, fit_reference, surroundings
from monitor.scoring.features import FeatureExtractor, TickFrames
from monitor.scoring.tick_sound import mean_frame, tick_sound
from tests.scoring.linear import FRONT_END, TICK
from tests.signals import hum

SEGMENT_TICKS = 4


@pytest.fixture(scope="module")
def ticks() -> list[TickFrames]:
    return FeatureExtractor(FRONT_END, tick_frames=32).push(Block(0, hum(0, 13 * TICK)))


def profiler() -> Profiler:
    return Profiler(FRONT_END, segment_ticks=SEGMENT_TICKS)


def at(tick: TickFrames, number: int) -> TickFrames:
    return replace(tick, start=number * TICK, stop=(number + 1) * TICK)


def test_a_profile_holds_a_segment_and_profiles_share_no_sound(ticks: list[TickFrames]) -> None:
    made = profiler()
    found = [[one.start // TICK for one in made.push(tick)] for tick in ticks[:12]]
    assert found == [[], [], [], [0], [], [], [], [4], [], [], [], [8]]
    assert made.end() == []  # there are profiles already


def test_ticks_without_frames_are_left_out_and_old_ones_are_dropped(ticks: list[TickFrames]) -> None:
    made = profiler()
    assert made.push(replace(ticks[0], frames=None)) == []
    numbers = [0, 3, 9, 10, 11]  # tick 3 is just young enough beside tick 11
    found = [made.push(at(tick, number)) for tick, number in zip(ticks, numbers, strict=False)]
    assert [[one.start // TICK for one in some] for some in found] == [[], [], [], [], [3]]


def test_a_stream_shorter_than_a_segment_has_one_profile(ticks: list[TickFrames]) -> None:
    made = profiler()
    made.push(ticks[0])
    (only,) = made.end()
    np.testing.assert_array_equal(only.mean_db, mean_frame([tick_sound(ticks[0], FRONT_END)]))
    assert made.end() == []


def test_the_reference_has_the_mean_and_spread_of_the_profiles() -> None:
    zeros = np.zeros(8)
    low, high = (SegmentProfile(zeros + db, zeros + 2 * db, np.zeros((2, 3), np.float32) + db) for db in (-3.0, 3.0))
    fitted = fit_reference([low, high])
    assert fitted.levels is not None
    assert fitted.envelope is not None
    np.testing.assert_allclose(fitted.mean_db, 0.0)
    np.testing.assert_allclose(fitted.spread_db, np.sqrt(18.0), rtol=1e-6)
    np.testing.assert_allclose(fitted.levels.spread_db, np.sqrt(72.0), rtol=1e-6)
    np.testing.assert_allclose(fitted.levels.contrast_spread_db, 0.5)  # all bands alike
    np.testing.assert_allclose(fitted.envelope.spread_db, np.sqrt(18.0), rtol=1e-6)
    alone = fit_reference([low])
    np.testing.assert_allclose(alone.spread_db, 0.5)
    with pytest.raises(ConfigError, match="half a segment"):
        fit_reference([])


def test_surroundings_reach_sixteen_bands_to_either_side() -> None:
    excess = np.zeros(100)
    excess[40:56] = 10.0  # sixteen of the 33 bands around any other one
    assert surroundings(excess).max() == 0.0
    excess[56] = 10.0
    assert np.flatnonzero(surroundings(excess)).tolist() == list(range(40, 57))
    np.testing.assert_array_equal(contrast(excess), excess - surroundings(excess))


def test_sound_is_compared_by_the_level_that_the_reference_has(ticks: list[TickFrames]) -> None:
    sounds = [tick_sound(tick, FRONT_END) for tick in ticks[:2]]
    plain = Reference(np.zeros(64, np.float32), np.ones(64, np.float32))
    np.testing.assert_array_equal(comparable_level(sounds, plain, FRONT_END), mean_frame(sounds))
    np.testing.assert_array_equal(
        comparable_level(sounds, replace(plain, levels=plain.best_levels), FRONT_END), level(sounds, FRONT_END)
    )


def test_the_spread_of_three_profiles_has_two_in_the_divisor() -> None:
    zeros = np.zeros(8)
    three = [SegmentProfile(zeros + db, zeros + db, np.zeros((1, 1), np.float32) + db) for db in (-3.0, 0.0, 3.0)]
    np.testing.assert_allclose(fit_reference(three).spread_db, 3.0)
