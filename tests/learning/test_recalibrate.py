"""A bundle adapted to another gain or learned again from ticks: the numbers in the result."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from monitor.block import Block
from monitor.bundle import Bundle, load_bundle
from monitor.errors import SourceError
from monitor.learning.learn import learn
from monitor.learning.recalibrate import recalibrate
from monitor.learning.rescore import TickRun
from tests.learning.test_outliers import made


@pytest.fixture(scope="module")
def base(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


@pytest.fixture(scope="module")
def fan(base: Bundle) -> TickRun:
    return stream(base, 2.0)


def stream(base: Bundle, gain: float) -> TickRun:
    return base.scorer().extract(Block(0, np.asarray(gain * made("fan", take=71, seconds=60.0), np.float32)))


def test_twice_the_amplitude_is_corrected_by_6_decibels(base: Bundle, fan: TickRun) -> None:
    found = recalibrate(base, [fan])
    metrics = found.manifest.provenance.metrics
    assert metrics["level_db"] == pytest.approx(6.0, abs=0.2)
    assert metrics["forced"] is False
    trained, new = base.manifest.calibration, found.manifest.calibration
    assert new.threshold >= trained.threshold
    assert new.file_threshold >= trained.file_threshold
    assert new.n_recordings == 1
    assert new.hours == pytest.approx(58 * 1.024 / 3600, abs=6e-5)
    assert new.alarm_threshold is not None and new.alarm_threshold >= new.threshold
    assert found.manifest.name == base.manifest.name
    assert found.messages[-1].startswith("calibrated on 59.4 s of sound, level +")
    assert "left out" not in found.messages[-1]
    assert "No threshold is below that of training." in found.messages[-2]
    adapted = found.manifest.provenance.adapted
    assert adapted is not None
    assert (adapted.by, adapted.of) == ("calibrate", base.id)


def test_with_force_all_of_the_difference_is_the_microphones(base: Bundle, fan: TickRun) -> None:
    found = recalibrate(base, [fan], force=True)
    assert found.manifest.provenance.metrics["forced"] is True
    assert found.manifest.provenance.metrics["level_db"] == pytest.approx(6.0, abs=0.2)
    assert "No threshold is below" not in "".join(found.messages)


def test_ticks_quieter_than_an_idle_machine_do_not_count(base: Bundle, fan: TickRun) -> None:
    """The level at which the fan is off rises with the gain: 6 dB above -46.8 dBFS."""
    off = [replace(tick, quality=replace(tick.quality, rms_dbfs=-41.0)) for tick in fan[:5]]
    found = recalibrate(base, [[*off, *fan[5:]]])
    assert found.manifest.calibration.hours == pytest.approx(53 * 1.024 / 3600, abs=6e-5)
    on = [replace(tick, quality=replace(tick.quality, rms_dbfs=-40.5)) for tick in fan[:5]]
    assert recalibrate(base, [[*on, *fan[5:]]]).manifest.calibration.hours == pytest.approx(58 * 1.024 / 3600, abs=6e-5)
    many = [replace(tick, quality=replace(tick.quality, rms_dbfs=-60.0)) for tick in fan[:7]]
    with pytest.raises(SourceError, match="12% of the audio is unusable, mostly idle"):
        recalibrate(base, [[*many, *fan[7:]]])


def test_at_least_45_seconds_are_needed(base: Bundle, fan: TickRun) -> None:
    recalibrate(base, [fan[:44]])
    with pytest.raises(SourceError, match="at least 45 s of usable sound is needed, got 44 s"):
        recalibrate(base, [fan[:43]])


def test_a_bundle_without_statistics_is_refused(base: Bundle, fan: TickRun) -> None:
    with pytest.raises(SourceError, match="has no statistics of normal sound to compare with"):
        recalibrate(replace(base, statistics=None), [fan])


@pytest.fixture(scope="module")
def sound(base: Bundle) -> TickRun:
    return base.scorer().extract(Block(0, made("fan", take=72, seconds=302.5)))[1:]


def test_a_machine_is_learned_from_fifths_of_its_sound(base: Bundle, sound: TickRun) -> None:
    found = learn(base, [sound], name="learned")
    calibration = found.manifest.calibration
    assert found.manifest.name == "learned"
    assert calibration.n_recordings == 1
    assert calibration.hours == pytest.approx(len(sound) * 1.024 / 3600, abs=6e-5)
    lengths = [len(part) for part in np.array_split(np.arange(len(sound)), 5)]
    assert calibration.n_segments == sum(length - 9 for length in lengths)
    assert calibration.fast_threshold is not None
    assert calibration.score_mean == pytest.approx(1.0, abs=0.2)
    assert found.manifest.provenance.metrics["held_out_mean"] == calibration.score_mean
    assert found.messages[-1].startswith("learned from 5.02 min of sound: a warning from ")
    with pytest.raises(SourceError, match=r"at least 5 min of usable sound is needed, got 4\.9"):
        learn(base, [sound[:290]], name="learned")


def test_a_machine_is_learned_from_recordings_that_stay_whole(base: Bundle, sound: TickRun) -> None:
    """Seven recordings of different lengths are seven folds."""
    edges = [0, 30, 70, 110, 150, 190, 230, len(sound)]
    recordings = [sound[start:stop] for start, stop in pairwise(edges)]
    calibration = learn(base, recordings, name="learned").manifest.calibration
    assert calibration.n_recordings == 7
    assert calibration.n_segments == sum(len(one) - 9 for one in recordings)
    assert calibration.n_units == sum(-(-(len(one) - 9) // 10) for one in recordings)
