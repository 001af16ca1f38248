"""A slammed door or a click while a machine is calibrated or learned is left out; what is not alone, or not short, is not."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from monitor.arrays import F32, F64, Bool
from monitor.block import Block
from monitor.bundle import Bundle, load_bundle
from monitor.cli.adapting.tick_input import TickCollector
from monitor.errors import SourceError
from monitor.events.decision import Rule
from monitor.learning.learn import learn
from monitor.learning.on_device import AdaptedBundle
from monitor.learning.outliers import isolated_runs, outlier_limit, outlier_ticks
from monitor.learning.recalibrate import recalibrate
from monitor.learning.rescore import RescoreResult, TickRun
from monitor.scoring.scorer import TickScore
from train.synth import MACHINES, Growth, Scene

RATE_HZ = 16_000
RULE = Rule(raise_k=12, raise_n=20)


def made(
    machine: str, *, seed: int = 0, take: int = 0, seconds: float = 60.0, fault: str | None = None, severity: float = 1.0
) -> F32:
    scene = Scene(machine=MACHINES[machine](seed), take=take, fault=fault, growth=Growth(severity=severity))
    return np.concatenate(list(scene.chunks(seconds)))


def with_bang(samples: F32, at_s: float, *, lasts_s: float = 0.03) -> F32:
    """And a click, or a slammed door, of noise that dies away."""
    n = round(RATE_HZ * lasts_s)
    noise = np.random.default_rng(round(at_s)).standard_normal(n) * np.exp(-np.arange(n) / (n / 4))
    banged = samples.copy()
    banged[round(at_s * RATE_HZ) :][:n] += np.asarray(0.3 * noise, np.float32)
    return np.asarray(np.clip(banged, -0.99, 0.99), np.float32)


@pytest.fixture(scope="module")
def base(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


def heard(base: Bundle, samples: F32) -> list[TickRun]:
    ears = TickCollector(base.manifest.scorer_spec)
    ears.push(Block(0, samples))
    return [ears.end()]


def threshold(made: AdaptedBundle) -> float:
    return made.manifest.calibration.threshold


@pytest.mark.parametrize(("at_s", "lasts_s", "force"), [(3, 0.03, True), (30, 0.03, False), (30, 1.5, False), (57, 0.03, False)])
def test_one_bang_in_a_minute_is_left_out(base: Bundle, at_s: float, lasts_s: float, force: bool) -> None:
    fan = made("fan", take=71, seconds=60.0)
    banged = recalibrate(base, heard(base, with_bang(fan, at_s, lasts_s=lasts_s)), force=force)
    assert "left out" in "\n".join(banged.messages)
    assert threshold(banged) == pytest.approx(
        threshold(recalibrate(base, heard(base, fan), force=force)), rel=0.06
    )  # a segment fewer


def test_bangs_all_along_or_near_each_other_are_refused(base: Bundle) -> None:
    fan = made("fan", take=71)
    for bangs_s in (range(2, 60, 5), (30, 34)):
        banged = fan
        for at_s in bangs_s:
            banged = with_bang(banged, at_s)
        with pytest.raises(SourceError, match="above the threshold even after correcting for the microphone"):
            recalibrate(base, heard(base, banged))


@pytest.mark.parametrize(
    ("fault", "severity"),
    [("bearing", 0.1), ("imbalance", 0.2), ("rubbing", 0.5), ("rattle", 0.1), ("blade", 0.5), ("cavitation", 0.1)],
)
def test_a_minute_of_a_machine_that_is_not_well_is_refused(base: Bundle, fault: str, severity: float) -> None:
    with pytest.raises(SourceError, match="does not match the trained machine"):
        recalibrate(base, heard(base, made("fan", take=80, fault=fault, severity=severity)))


@pytest.mark.parametrize(("machine", "seed"), [("fan", 1), ("fan", 2), ("pump", 0), ("valve", 0)])
def test_a_minute_of_another_machine_is_refused(base: Bundle, machine: str, seed: int) -> None:
    with pytest.raises(SourceError, match="does not match the trained machine"):
        recalibrate(base, heard(base, made(machine, seed=seed, take=80)))


def test_clips_beside_a_disturbed_recording_are_learned_all_the_same(base: Bundle) -> None:
    """Ten seconds hold one tick fewer than a segment has."""
    long = with_bang(made("pump", seed=3, seconds=60.0), 29)
    clips = [heard(base, clip)[0] for clip in np.split(made("pump", seed=3, take=5, seconds=300.0), 30)]
    found = learn(base, [*clips, heard(base, long)[0]], name="learned")
    assert "00:00:28-00:00:29 of recording 31" in found.messages[0]
    assert "learned from 5." in found.messages[-1]

    other = heard(base, made("valve", seed=3, seconds=10.0))[0]
    found = learn(base, [other, *clips, heard(base, long)[0]], name="learned")
    assert "dropped as outliers: 00:00:00-00:00:09 of recording 1" in found.messages[0]
    assert "00:00:28-00:00:29 of recording 32" in found.messages[1]


def test_a_recording_that_is_left_out_whole_is_no_part_of_the_sound(base: Bundle) -> None:
    """Where each of a few recordings is judged by the others."""
    clips = [heard(base, clip)[0] for clip in np.split(made("pump", seed=3, take=5, seconds=300.0), 5)]
    found = learn(base, [heard(base, made("valve", seed=3, seconds=10.0))[0], *clips], name="learned")
    assert "dropped as outliers: 00:00:00-00:00:09 of recording 1" in found.messages[0]
    assert "The thresholds are based on 5 recordings, 4.9" in found.messages[-1]


def test_sound_that_comes_in_scraps_is_refused(base: Bundle) -> None:
    scraps = [heard(base, scrap)[0] for scrap in np.split(made("fan", take=71, seconds=300.0), 100)]
    with pytest.raises(SourceError, match=r"at least 45 s of recordings of 5\.12 s or longer are needed, got 0 s"):
        recalibrate(base, scraps)


@pytest.mark.parametrize("machine", ["fan", "pump", "valve", "gearbox"] if os.environ.get("LONG_TESTS") else ["pump"])
def test_one_bang_does_not_make_what_is_learned_deaf(base: Bundle, machine: str) -> None:
    """Without leaving it out, the threshold would be some hundred times as high."""
    sound = made(machine, seed=3, seconds=330.0)
    found = learn(base, heard(base, with_bang(sound, 230, lasts_s=1.5)), name="learned")
    assert "left out as isolated outliers: 00:03:" in found.messages[0]
    assert threshold(found) < 1.5 * threshold(learn(base, heard(base, sound), name="learned"))


def over(*runs: tuple[int, int], n: int = 100) -> Bool:
    mask = np.zeros(n, bool)
    for start, stop in runs:
        mask[start:stop] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (over((30, 40)), [slice(30, 40)]),
        (over((30, 42)), []),  # the rule would raise
        (over((30, 36), (40, 46)), []),  # as it would here
        (over((20, 26), (60, 71)), [slice(20, 26), slice(60, 71)]),
        (over((0, 5), (95, 100)), [slice(0, 5), slice(95, 100)]),
        (over((0, 100)), []),
        (over((0, 1), n=19), []),  # too short to tell
        (over(), []),
    ],
)
def test_lone_is_what_the_rule_does_not_raise_at(mask: Bool, found: list[slice]) -> None:
    assert isolated_runs(mask, RULE, max_length=RULE.raise_k - 1) == found


def scored(scores: F64, *, first: int = 0) -> tuple[list[TickRun], RescoreResult]:
    """A piece whose tick number i, from `first` on, ends a segment of this score; the first nine end none."""
    ticks = [
        TickScore(at, at + 1, None, None, float(score) if at - first >= 9 else None, min(10, at - first + 1))
        for at, score in enumerate(scores, first)
    ]
    full = np.array([tick.score for tick in ticks if tick.score is not None])
    nothing = np.empty((0, 0))
    trace = RescoreResult(full, nothing, nothing, (full,), np.empty(0), (tuple(ticks),), np.empty((0, 0), np.float32))
    return [cast(TickRun, ticks)], trace


def left_out(
    *heard: tuple[list[TickRun], RescoreResult], recordings: Sequence[Sequence[TickRun]] | None = None
) -> list[tuple[int, int]]:
    """When, of one recording if nothing else is said."""
    whole = [[piece for pieces, _ in heard for piece in pieces]]
    found = outlier_ticks(whole if recordings is None else recordings, heard, RULE, segment_ticks=10)
    return [(part[0].start, part[-1].stop) for _, part in found]


def quiet(n: int = 600) -> F64:
    return np.asarray(1.0 + 0.1 * np.random.default_rng(0).random(n), np.float64)


def test_the_disturbed_ticks_are_found_by_their_segments() -> None:
    scores = quiet()
    scores[50:60] += 5.0  # one tick
    scores[150:163] += 5.0  # four
    assert left_out(scored(scores)) == [(50, 51), (150, 154)]
    scores[150:164] += 5.0
    assert left_out(scored(scores)) == [(50, 51)]


def test_what_happens_again_and_again_is_the_machines() -> None:
    for n_times, n_left_out in ((5, 5), (6, 0)):
        scores = quiet(1000)
        for number in range(n_times):
            scores[100 + 100 * number :][:13] += 5.0
        assert len(left_out(scored(scores))) == n_left_out


def test_what_goes_on_over_a_border_is_not_alone() -> None:
    """Folds of a recording know nothing of each other, but what is heard in them goes on."""
    scores = quiet()
    scores[90:120] += 5.0
    before, after = scored(scores[:100]), scored(scores[100:], first=100)
    assert left_out(before, after) == []
    assert left_out(before, after, recordings=[before[0], after[0]]) == [(90, 100), (100, 111)]
    elsewhere = scored(scores[100:], first=900)
    assert left_out(before, elsewhere) == [(90, 100), (900, 911)]


def test_what_is_usual_does_not_depend_on_how_loud_a_bang_is() -> None:
    scores = np.random.default_rng(0).gamma(4.0, 0.25, 300)
    limits = []
    for bang in (5.0, 500.0):
        scores[100:110] = bang
        limits.append(outlier_limit(scores, RULE))
    assert limits[0] == limits[1]
    assert np.delete(scores, range(100, 110)).max() < limits[0] < 5.0
