"""Thresholds from normal scores: what each method gives, and that none of them promises what the sound cannot bear."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.random import default_rng
from scipy import stats

from benchmarks.calibration import beta_p_value, conformal_rates, raises, segment_scores, set_thresholds
from monitor.arrays import F64
from monitor.errors import ConfigError
from monitor.events.decision import Rule, RuleState, decide
from monitor.learning.false_alarms import count_events, poisson_bound
from monitor.learning.methods import block_maxima, conformal_threshold, mean_sigma_threshold
from monitor.learning.thresholds import FUSED_PRIOR, Calibration, HeldOut
from train.calibration.tails import Tail, fit_tail, gamma_quantile
from train.calibration.thresholds import calibrate
from train.recipes.method import METHODS, Method, MethodName

RULE = Rule()
HOUR = 3516  # segments


def held_out(*sequences: F64, files: F64 | None = None) -> HeldOut:
    n = sum(map(len, sequences))
    units = np.concatenate([sequence[::10] for sequence in sequences])
    return HeldOut(
        sequences=sequences,
        unit_scores=units,
        file_scores=np.array([sequence.mean() for sequence in sequences]) if files is None else files,
        hours=n * 1.024 / 3600,
        n_recordings=len(sequences),
        n_learned=len(units),
    )


def calibrated(*sequences: F64, method: Method | None = None, files: F64 | None = None) -> Calibration:
    return calibrate(held_out(*sequences, files=files), rule=RULE, segment_ticks=10, tick_s=1.024, method=method)


def steady(seed: int, n: int = HOUR) -> F64:
    return segment_scores(default_rng(seed).gamma(9.0, 1 / 9, n + 9))


def test_realised_conformal_rates_follow_the_beta_law() -> None:
    rates = conformal_rates(default_rng(3), n=300, false_alarm=0.02, draws=150)
    assert beta_p_value(rates, n=300, false_alarm=0.02) > 0.01
    assert beta_p_value(rates + 0.004, n=300, false_alarm=0.02) < 0.01


@given(
    st.lists(st.sampled_from([0.5, 0.89, 0.95, 1.0, 1.5]), max_size=150),
    st.integers(1, 8),
    st.integers(0, 8),
    st.integers(1, 12),
)
def test_the_benchmarks_rule_is_the_devices(ratios: list[float], k: int, extra: int, clear_m: int) -> None:
    rule, counts, expected = Rule(raise_k=k, raise_n=k + extra, clear_m=clear_m), RuleState(), []
    for i, ratio in enumerate(ratios):
        after = decide(rule, counts, ratio)
        if after.raised and not counts.raised:
            expected.append(i)
        counts = after
    assert raises(np.array(ratios), rule) == expected
    assert count_events(ratios, rule) == len(expected)


def test_mean_plus_k_sigma_is_what_it_was() -> None:
    normal = held_out(*(steady(i, 50) for i in range(12)))
    segment = mean_sigma_threshold(normal.segment_scores, k=3.0)
    file = max(segment, mean_sigma_threshold(normal.file_scores, k=3.0))
    clear_ratio = max(Rule().clear_ratio, mean_sigma_threshold(normal.segment_scores, k=1.5) / segment)
    new = calibrate(normal, rule=RULE, segment_ticks=10, tick_s=1.024, method=Method(name="mean+k*sigma", k=3.0))
    assert (new.threshold, new.file_threshold) == (segment, file)
    assert new.clear_ratio == pytest.approx(clear_ratio, abs=1e-4)


def test_a_percentile_of_the_segments() -> None:
    scores = steady(0)
    assert calibrated(scores, method=Method(name="percentile", percentile=99.0)).threshold == np.percentile(scores, 99.0)


def test_the_conformal_threshold_counts_blocks_and_lies_just_above_their_score() -> None:
    scores = steady(0)
    found = calibrated(scores, method=Method(name="conformal", false_alarm=0.05))
    peaks = block_maxima(scores, length=20)
    assert found.n_blocks == len(peaks) == 175
    assert found.threshold == math.nextafter(conformal_threshold(peaks, false_alarm=0.05), math.inf)


def test_the_gamma_quantile_is_scipys() -> None:
    scores = default_rng(0).gamma(9.0, 2.0, 5000)
    shape, _, scale = stats.gamma.fit(scores, floc=0)
    assert gamma_quantile(scores, false_alarm=0.01) == pytest.approx(stats.gamma.isf(0.01, shape, scale=scale), rel=1e-6)


@pytest.mark.parametrize("shape", [0.0, 0.2])
def test_a_known_tail_is_found_again(shape: float) -> None:
    values = stats.genpareto.rvs(shape, scale=2.0, size=40_000, random_state=1)
    tail = fit_tail(values, values)
    assert tail is not None
    assert tail.chance == pytest.approx(0.05, abs=1e-4)
    assert tail.shape == pytest.approx(shape, abs=0.05)
    assert tail.threshold(1e-4) == pytest.approx(stats.genpareto.isf(1e-4, shape, scale=2.0), rel=0.15)


def test_a_tail_gives_its_own_chance_back() -> None:
    for shape in (0.0, 0.3):
        tail = Tail(5.0, shape, 2.0, 0.1)
        over = stats.genpareto.sf(tail.threshold(1e-5) - 5.0, shape, scale=2.0)
        assert 0.1 * over == pytest.approx(1e-5, rel=1e-9)


def test_a_bounded_tail_is_not_believed() -> None:
    values = default_rng(2).uniform(0, 1, 5000)
    tail = fit_tail(values, values)
    assert tail is not None
    assert tail.shape == 0.0


def test_no_false_event_in_a_week_after_an_hour_of_calibration() -> None:
    week = steady(100, 590_625)
    events, sigmas = [], []
    for seed in range(9):
        found = calibrated(steady(seed))
        judge = Rule(clear_ratio=found.clear_ratio)
        events.append(len(raises(week / found.threshold, judge)))
        sigmas.append((found.threshold - week.mean()) / week.std())
    assert np.median(events) <= 1
    assert np.median(sigmas) < 5.0
    assert max(sigmas) < 10.0


def test_one_bang_in_the_calibration_sound_does_not_make_the_default_deaf() -> None:
    ticks = default_rng(5).gamma(9.0, 1 / 9, HOUR + 9)
    quiet = calibrated(segment_scores(ticks)).threshold
    ticks[1000] *= 50.0
    assert calibrated(segment_scores(ticks)).threshold < 1.1 * quiet
    assert calibrated(segment_scores(ticks), method=Method(name="conformal", false_alarm=0.006)).threshold > 2 * quiet


@pytest.mark.parametrize(("chance", "level"), [(0.0025, "threshold"), (1e-4, "alarm_threshold")])
def test_the_levels_of_the_default_are_predictive_quantiles_of_segments_that_share_no_sound(chance: float, level: str) -> None:
    for seed in range(5):
        logs = np.log(steady(seed)[::10])
        n = len(logs)
        weight, prior = FUSED_PRIOR.weight, FUSED_PRIOR.limit + FUSED_PRIOR.per_recording / n
        log_spread = (weight * math.log(prior) + (n - 1) * math.log(logs.std(ddof=1))) / (weight - 1 + n)
        expected = math.exp(logs.mean() + stats.t.isf(chance, 10) * math.exp(log_spread) * math.sqrt(1 + 1 / n))
        assert getattr(calibrated(steady(seed)), level) == pytest.approx(expected, rel=1e-3)


def test_an_anomaly_over_normal_sound_ends() -> None:
    found = calibrated(steady(0))
    rule, counts = Rule(clear_ratio=found.clear_ratio), RuleState(severity="alarm")
    for score in steady(1, 600):
        counts = decide(rule, counts, score / found.threshold)
    assert not counts.raised


HARD: dict[str, tuple[F64, ...]] = {
    "eleven scores": (np.linspace(1.0, 2.0, 11),),
    "two recordings of one score": (np.array([1.0]), np.array([1.5])),
    "all equal": (np.full(500, 3.0),),
    "two values": (np.tile([1.0, 2.0, 1.0], 200),),
    "heavy tail": (default_rng(1).pareto(0.5, 3000) + 1.0,),
    "tiny": (1e-12 * (1.0 + default_rng(2).random(1000)),),
    "huge": (1e12 * (1.0 + default_rng(2).random(1000)),),
    "one spike": (np.concatenate((np.ones(999), [1e6])),),
    "short clips": tuple(np.array([score]) for score in default_rng(3).gamma(9, 1, 40)),
    "half a minute each": tuple(steady(i, 20) for i in range(8)),
}


NOT_POSITIVE: dict[str, tuple[F64, ...]] = {
    "all zero": (np.zeros(500),),
    "below zero": (default_rng(0).standard_normal(1000) - 3.0,),
}
ONE_LEVEL = tuple(name for name in METHODS if name != "default")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("sequences", HARD.values(), ids=HARD.keys())
def test_whatever_the_scores_there_is_a_threshold(name: MethodName, sequences: tuple[F64, ...]) -> None:
    found = calibrated(*sequences, method=Method(name=name))
    assert 0.0 < found.threshold < math.inf
    assert 0.9 <= found.clear_ratio < 1.0
    assert "nan" not in found.statement
    assert found.threshold > np.median(np.concatenate(sequences))
    if name == "default":
        assert found.alarm_threshold is not None
        assert found.file_alarm_threshold is not None
        assert found.threshold < found.alarm_threshold < math.inf or found.threshold == 1e-9
        assert 0.0 < found.file_threshold < found.file_alarm_threshold < math.inf
        assert found.file_threshold > np.median(np.concatenate(sequences))
    else:
        assert found.threshold <= found.file_threshold < math.inf
        assert found.alarm_threshold is None
        assert found.file_alarm_threshold is None


@pytest.mark.parametrize("sequences", NOT_POSITIVE.values(), ids=NOT_POSITIVE.keys())
def test_scores_without_a_logarithm_are_refused_by_the_default_alone(sequences: tuple[F64, ...]) -> None:
    with pytest.raises(ConfigError, match="scores must be above 0 to take logarithms"):
        calibrated(*sequences)
    for name in ONE_LEVEL:
        found = calibrated(*sequences, method=Method(name=name))
        assert max(0.0, float(np.median(sequences[0]))) < found.threshold <= found.file_threshold < math.inf


@given(st.lists(st.floats(0.01, 100.0), min_size=11, max_size=60), st.sampled_from(METHODS))
@example([1.0] * 10 + [2.0] * 10, "default")  # half of it looks like a bang, without which one segment would be left
def test_a_recording_like_most_is_no_anomaly(scores: list[float], name: MethodName) -> None:
    found = calibrated(np.array(scores), files=np.full(12, np.median(scores)), method=Method(name=name))
    assert found.file_threshold > np.median(scores)


def test_equal_scores_never_raise_and_an_anomaly_over_them_clears() -> None:
    found = calibrated(np.full(500, 3.0))
    assert found.events == 0
    assert 3.0 / found.threshold < found.clear_ratio


def test_one_score_is_refused() -> None:
    for name in METHODS:
        with pytest.raises(ConfigError, match="a threshold needs at least 2 segment scores, got 1"):
            calibrated(np.array([1.0]), method=Method(name=name))


@pytest.mark.parametrize("n", [2, 10])
def test_scores_of_segments_that_share_their_sound_are_refused_by_the_default_alone(n: int) -> None:
    scores = np.linspace(1.0, 2.0, n)
    with pytest.raises(ConfigError, match="a predicted threshold needs at least 2 segments that share no sound, got 1"):
        calibrated(scores)
    for name in ONE_LEVEL:
        assert 1.5 < calibrated(scores, method=Method(name=name)).threshold < math.inf


def test_methods_that_cannot_be_fitted_say_what_was_done_instead() -> None:
    assert "so mean + 6 sigma is used" in calibrated(np.linspace(1.0, 2.0, 11), method=Method(name="pot")).statement
    assert "A gamma distribution cannot be fitted" in calibrated(np.full(19, 3.0), method=Method(name="gamma")).statement
    assert "needs 99 blocks, so the largest of 5 scores is used" in (
        calibrated(steady(0, 100), method=Method(name="conformal", false_alarm=0.01)).statement
    )


def test_one_bang_in_ten_minutes_does_not_make_it_deaf() -> None:
    """A fifth of an hour is what sets the threshold on an hour of recordings."""
    banged = steady(0, 600)
    banged[300:310] += 20.0
    found, calm = calibrated(banged), calibrated(steady(0, 600))
    assert found.threshold < 1.1 * calm.threshold
    assert "1 isolated outlier, too short to raise an event, was left out" in found.statement
    assert found.events == 0
    assert "left out" not in calm.statement
    banged[300:312] += 20.0  # long enough to raise: not to be explained away
    longer = calibrated(banged)
    assert longer.threshold > 1.2 * calm.threshold
    assert "left out" not in longer.statement


def test_nor_does_a_bang_where_there_is_little_to_extrapolate_from() -> None:
    """What stands in for the rule's view, then, is of segments."""
    for calm in ((steady(0, 50),), (steady(0, 60),), (*(steady(seed, 19) for seed in range(1, 21)), steady(0, 120))):
        banged = calm[-1].copy()
        banged[30:40] += 20.0
        assert calibrated(*calm[:-1], banged).threshold < 1.2 * calibrated(*calm).threshold


def test_an_hour_of_sound_proves_little_and_that_is_said_beside_what_is_expected() -> None:
    found = calibrated(steady(0))
    assert (found.events, found.promised_per_week, found.promised_alarms_per_week) == (0, 7.0, 0.25)
    assert found.bound_95_per_week == pytest.approx(-math.log(0.05) * 168 / (HOUR * 1.024 / 3600))
    assert found.supported_per_week == pytest.approx(168 * 3600 / (HOUR / 175 * 1.024) / 176)
    assert found.statement == (
        "The thresholds are based on 1 recording, 1 h of normal sound (352 separate segments). Expect a false warning about once "
        "a day at most, a false alarm about once a month at most, and a false verdict on 3.5 % of normal recordings. "
        "A replay raised no false events, so the rate is below 71.9 a day (95 % confidence)."
    )


def test_a_method_with_one_level_says_what_it_aims_at() -> None:
    found = calibrated(steady(0), method=Method(name="pot", events_per_week=600.0))
    assert "The method aims at a rate of false events of at most 85.7 a day." in found.statement
    assert found.promised_alarms_per_week is None


def test_few_recordings_and_drift_are_said() -> None:
    few = calibrated(*(steady(seed, 20) for seed in range(5)))
    assert "With fewer than 12 recordings (or 10 s segments of longer ones) only severe faults are detected" in few.statement
    normal = held_out(steady(0))
    drifting = calibrate(replace(normal, drift=0.2), rule=RULE, segment_ticks=10, tick_s=1.024)
    assert "Later sound differs from earlier sound, so the thresholds allow for scores 1.22 times as high" in drifting.statement
    steady_one = calibrate(normal, rule=RULE, segment_ticks=10, tick_s=1.024)
    assert drifting.threshold == pytest.approx(math.exp(0.2) * steady_one.threshold)
    assert drifting.drift == 0.2


def test_events_in_the_replay_are_counted_and_bound_the_rate() -> None:
    found = calibrated(steady(0), method=Method(name="percentile", percentile=50.0))
    judge = Rule(clear_ratio=found.clear_ratio)
    assert found.events == len(raises(steady(0) / found.threshold, judge)) > 0
    assert found.bound_95_per_week == pytest.approx(poisson_bound(found.events) * 168 / (HOUR * 1.024 / 3600))


def test_recordings_too_short_for_the_rule_show_no_rate() -> None:
    found = calibrated(*(np.array([score]) for score in default_rng(3).gamma(9, 1, 40)))
    assert found.bound_95_per_week is None
    assert (found.n_blocks, found.n_recordings) == (40, 40)
    assert (
        "The recordings are too short to count false events in a replay, so their rate could not be verified." in found.statement
    )


@pytest.mark.parametrize("events", [0, 1, 7])
def test_the_poisson_bound_is_exact(events: int) -> None:
    assert stats.poisson.cdf(events, poisson_bound(events)) == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("name", ONE_LEVEL)
def test_many_files_raise_the_file_threshold_of_a_method_with_one_level_but_never_lower_it(name: MethodName) -> None:
    scores = [steady(i, 50) for i in range(20)]
    low, high = (calibrated(*scores, files=np.full(20, value), method=Method(name=name)) for value in (0.1, 90.0))
    assert low.file_threshold == low.threshold
    assert high.file_threshold >= (90.0 if name != "gamma" else high.threshold)


def test_ten_files_set_the_file_thresholds_of_the_default_and_nine_leave_them_to_the_segments() -> None:
    scores = [steady(i, 50) for i in range(20)]
    by_segments, by_files = (calibrated(*scores, files=np.full(n, 9.0)) for n in (9, 10))
    assert by_segments.file_threshold < by_segments.threshold
    assert by_segments.file_alarm_threshold == by_segments.alarm_threshold
    assert 9.0 < by_files.file_threshold < (by_files.file_alarm_threshold or 0.0)
    assert by_files.threshold == by_segments.threshold


def test_the_manifest_gets_everything_but_the_clear_ratio() -> None:
    part = calibrated(steady(0)).manifest_part()
    assert part["parameters"] == {}
    assert part["threshold"] < part["alarm_threshold"]
    assert part["file_threshold"] < part["file_alarm_threshold"]
    assert "clear_ratio" not in part
    assert calibrated(steady(0), method=Method(name="pot")).manifest_part()["parameters"] == {"events_per_week": 1.0}
    short = calibrated(np.linspace(1.0, 2.0, 11), method=Method(name="mean+k*sigma"))
    assert {"promised_per_week", "promised_alarms_per_week", "bound_95_per_week", "alarm_threshold"}.isdisjoint(
        short.manifest_part()
    )


def test_the_old_way_of_one_sequence_still_works() -> None:
    scores = steady(0)
    assert set_thresholds(scores, RULE, Method()).threshold == calibrated(scores).threshold


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "magic"}, "method must be one of default, mean"),
        ({"k": 0.0}, "k must be above 0 and at most 100, got 0"),
        ({"percentile": 100.0}, "percentile must be above 0 and below 100, got 100"),
        ({"false_alarm": 1.0}, "false_alarm must be at least 1e-09 and below 1, got 1"),
        ({"events_per_week": 0.0}, "events_per_week must be in 0.001..10000, got 0"),
    ],
)
def test_impossible_methods_are_named(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Method(**change)  # type: ignore[arg-type]
