"""Sound that is too short, unusable or not steady, and the thresholds that are computed from the rest."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.arrays import F64
from monitor.bundle import Bundle, load_bundle
from monitor.errors import ConfigError, SourceError
from monitor.events.decision import Rule
from monitor.learning.learn import default_detector
from monitor.learning.on_device import calibrate_here, check_sound, drop_outlier_blocks
from monitor.learning.outliers import drop_ticks, outlier_limit
from monitor.learning.predictive import fit_score_model
from monitor.learning.report_text import duration, per_week, report_text, significant
from monitor.learning.thresholds import HeldOut, clear_ratio_of, predicted_thresholds, prior_of
from monitor.scoring.fast_path import Fast
from monitor.scoring.features import TickFrames
from monitor.scoring.quality import Quality
from tests.scoring.linear import TICK, linear_scorer

SPEC = linear_scorer(segment_ticks=10).spec  # a tick lasts 1.024 s
NOTHING = np.zeros(0, np.float32)


def tick(at: int, reason: str | None = None, level_db: float = -50.0) -> TickFrames:
    frames = None if reason else np.full((32, 64), level_db, np.float32)
    return TickFrames(at * TICK, (at + 1) * TICK, 32, at == 0, Quality(-30.0, 0.1, 0.0, 0.0, 0.0, reason), frames, NOTHING)


def stream(levels_db: Sequence[float]) -> list[TickFrames]:
    return [tick(at, level_db=level_db) for at, level_db in enumerate(levels_db)]


def refused(reasons: Sequence[str | None], *, min_s: float = 45.0) -> str:
    try:
        check_sound([[tick(at, reason) for at, reason in enumerate(reasons)]], SPEC, min_s=min_s)
    except SourceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("reasons", "message"),
    [
        ([None] * 44, ""),
        ([None] * 43, "at least 45 s of usable sound is needed, got 44 s"),
        ([None] * 90 + ["silent"] * 10, ""),
        (
            [None] * 89 + ["silent"] * 5 + ["clipped"] * 6,
            "11% of the audio is unusable, mostly clipped (at most 10% allowed)",
        ),
        ([None] * 43 + ["silent"] * 4, "at least 45 s of usable sound is needed, got 44 s"),
    ],
)
def test_too_little_sound_or_too_much_unusable_sound_is_refused(reasons: Sequence[str | None], message: str) -> None:
    assert refused(reasons) == message


def test_recordings_shorter_than_half_a_segment_do_not_count() -> None:
    check_sound([[tick(at) for at in range(5)]] * 9, SPEC, min_s=45.0)
    with pytest.raises(SourceError, match=r"at least 45 s of recordings of 5\.12 s or longer are needed, got 41 s"):
        check_sound([[tick(at) for at in range(4)], *[[tick(at) for at in range(5)]] * 8], SPEC, min_s=45.0)
    check_sound([[tick(0)], [tick(at) for at in range(44)]], SPEC, min_s=45.0)
    with pytest.raises(SourceError, match="at least 45 s of usable sound is needed, got 41 s"):
        check_sound([[tick(at) for at in range(5)]] * 8, SPEC, min_s=45.0)
    odd = replace(SPEC, segment_ticks=9)  # 5 of 9 ticks are half of it
    with pytest.raises(SourceError, match=r"recordings of 5\.12 s or longer"):
        check_sound([[tick(at) for at in range(4)]] * 20, odd, min_s=45.0)


@pytest.fixture(scope="module")
def base(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


def levels(blocks_db: Sequence[float]) -> list[TickFrames]:
    """Blocks of twenty ticks, each at its own level."""
    return stream(np.repeat(blocks_db, 20).tolist())


WAVE = [-50.0, -49.0] * 12  # consecutive blocks differ by 1 dB


def dropped(base: Bundle, *streams: list[TickFrames], max_share: float = 0.1) -> tuple[list[list[int]], list[str]]:
    kept, messages = drop_outlier_blocks(streams, base.manifest, max_share=max_share)
    return [[len(piece) for piece in pieces] for pieces in kept], messages


def test_a_block_four_times_the_usual_difference_away_is_dropped(base: Bundle) -> None:
    near, far = WAVE.copy(), WAVE.copy()
    near[12], far[12] = -45.1, -44.9
    assert dropped(base, levels(near)) == ([[480]], [])
    assert dropped(base, levels(far)) == ([[240, 220]], ["dropped as outliers: 00:04:05-00:04:26"])


def test_the_usual_difference_is_at_least_half_a_decibel(base: Bundle) -> None:
    steady = [-50.0] * 24
    steady[5] = -48.1
    assert dropped(base, levels(steady))[1] == []
    steady[5] = -47.9
    assert dropped(base, levels(steady)) == ([[100, 360]], ["dropped as outliers: 00:01:42-00:02:02"])


@pytest.mark.parametrize(("n_alike", "is_dropped"), [(5, True), (6, False)])
def test_five_other_blocks_that_are_alike_make_a_state(base: Bundle, n_alike: int, is_dropped: bool) -> None:
    blocks_db = WAVE.copy()
    blocks_db[6 : 6 + n_alike] = [-30.0] * n_alike
    assert bool(dropped(base, levels(blocks_db), max_share=1.0)[1]) == is_dropped


def test_a_quarter_of_the_blocks_is_enough_where_there_are_few(base: Bundle) -> None:
    for n_alike, is_dropped in ((2, True), (3, False)):
        blocks_db = WAVE[:8] + [-30.0] * n_alike
        assert bool(dropped(base, levels(blocks_db), max_share=1.0)[1]) == is_dropped


def test_the_blocks_of_a_recording_make_a_state(base: Bundle) -> None:
    other = levels([-30.0, -31.0, -30.0])
    normal = levels(WAVE[:3])
    assert dropped(base, *[normal] * 7, other)[1] == []
    mixed = levels([-50.0, -49.0, -30.0])
    assert dropped(base, *[normal] * 7, mixed) == ([[60]] * 7 + [[40]], ["dropped as outliers: 00:00:40-00:01:01 of recording 8"])


def test_too_many_outliers_are_refused_and_the_first_five_are_named(base: Bundle) -> None:
    blocks_db = [*WAVE, *WAVE]
    for number, at in enumerate((3, 10, 17, 24, 31, 38)):
        blocks_db[at] = 10.0 * number
    with pytest.raises(
        SourceError, match="6 of 48 blocks of sound differ from the rest, so the machine did not run as usual"
    ) as error:
        dropped(base, levels(blocks_db))
    assert str(error.value).endswith(
        "00:01:01-00:01:21, 00:03:24-00:03:45, 00:05:48-00:06:08, 00:08:11-00:08:32, 00:10:34-00:10:55 …"
    )
    assert dropped(base, levels(blocks_db), max_share=0.125)[0] == [[60, 120, 120, 120, 120, 120, 180]]


def test_later_times_are_in_hours(base: Bundle) -> None:
    far = WAVE.copy()
    far[12] = -30.0
    late = [replace(one, start=one.start + 3600 * 16000 * 3, stop=one.stop + 3600 * 16000 * 3) for one in levels(far)]
    assert dropped(base, late)[1] == ["dropped as outliers: 03:04:05-03:04:26"]


def test_what_is_left_of_a_piece_is_at_least_a_segment() -> None:
    piece = stream([-50.0] * 40)
    found = drop_ticks([piece, piece[:9]], [piece[10:12], piece[21:22]], segment_ticks=10)
    assert [(one[0].start // TICK, len(one)) for one in found] == [(0, 10), (22, 18), (0, 9)]


def test_the_limit_of_outliers_is_six_sigma_above_the_lower_nine_tenths() -> None:
    rule = Rule(raise_k=12, raise_n=20)
    scores: F64 = np.tile([1.0, 3.0], 500)
    assert outlier_limit(scores, rule) == pytest.approx(2.0 + 6.0)
    scores[:99] = 100.0
    rest = scores[99:]
    assert outlier_limit(scores, rule) == pytest.approx(rest.mean() + 6.0 * rest.std())
    scores[:100] = 100.0  # the quantile is a tenth of the way from 3 to 100
    assert outlier_limit(scores, rule) == pytest.approx(12.7)
    few: F64 = np.tile([1.0, 3.0], 20)
    few[:11] = 100.0  # fewer than the twelve of an event
    assert outlier_limit(few, rule) == pytest.approx(few[11:].mean() + 6.0 * few[11:].std())
    half: F64 = np.array([1.0, 1.0, 1.0, 90.0, 90.0])
    assert outlier_limit(half, rule) == pytest.approx(1.0)


def held_out(n: int = 40, *, n_files: int = 0, drift: float = 0.0, n_learned: int = 12) -> HeldOut:
    """Scores whose logarithms are 0.1 up and down."""
    scores: F64 = np.exp(np.tile([-0.1, 0.1], n // 2))
    return HeldOut(
        sequences=(scores,),
        unit_scores=scores,
        file_scores=2.0 * scores[:n_files],
        hours=1.0,
        n_recordings=1,
        n_learned=n_learned,
        drift=drift,
        tick_scores=np.linspace(0.0, 100.0, 101),
        tick_levels_dbfs=np.linspace(-40.0, -30.0, 101),
    )


def test_the_priors_of_a_mean_of_components_and_of_an_error_alone() -> None:
    fused, alone = prior_of(("reconstruction", "spectrum")), prior_of(("reconstruction",))
    assert (fused.weight, alone.weight) == (15, 5)
    assert fused.spread(10) == pytest.approx(0.17 + 0.11)
    assert alone.spread(10) == pytest.approx(0.15)
    assert default_detector(64).components == ("reconstruction", "spectrum", "modulation")
    wide, narrow = default_detector(64).modulation, default_detector(8).modulation
    assert wide is not None and narrow is not None
    assert (wide.n_groups, narrow.n_groups) == (16, 8)


def test_the_spread_is_shrunk_towards_the_prior_and_is_at_least_half_a_percent() -> None:
    fused = prior_of(("a", "b"))
    flat = fit_score_model(np.full(16, 2.0), n_learned=11, prior=fused)
    assert flat.spread == pytest.approx(0.27**0.5 * 0.005**0.5)
    assert (flat.typical, flat.mean, flat.n, flat.degrees) == (2.0, 0.0, 16, 10)
    few = fit_score_model(np.array([1.0, 2.0]), n_learned=11, prior=prior_of(("a",)))
    assert (few.n, few.degrees) == (2, 6)
    assert few.typical == 1.5


def test_the_levels_of_segments_and_files_have_their_chances() -> None:
    normal = held_out(n_files=10)
    found = predicted_thresholds(normal, prior=prior_of(("a", "b")))
    segments = fit_score_model(normal.unit_scores, n_learned=12, prior=prior_of(("a", "b")))
    files = fit_score_model(normal.file_scores, n_learned=12, prior=prior_of(("a", "b")))
    assert found.segment == segments.threshold(0.0025)
    assert found.alarm == segments.threshold(1e-4)
    assert (found.file, found.file_alarm) == (files.threshold(0.035), files.threshold(1e-4))
    assert found.spread == segments.spread
    assert predicted_thresholds(held_out(n_files=9), prior=prior_of(("a", "b"))).file == segments.threshold(0.035)
    assert predicted_thresholds(normal, prior=prior_of(("a", "b")), min_threshold=1.8).segment == 1.8
    with pytest.raises(ConfigError, match="needs at least 2 segments that share no sound, got 1"):
        predicted_thresholds(replace(normal, unit_scores=np.ones(1)), prior=prior_of(("a", "b")))


def test_notes_on_few_recordings_and_drift() -> None:
    assert predicted_thresholds(held_out(), prior=prior_of(("a",))).notes == ()
    (few,) = predicted_thresholds(held_out(n_learned=11), prior=prior_of(("a",))).notes
    assert few.startswith("with fewer than 12 recordings")
    (drift,) = predicted_thresholds(held_out(drift=0.01), prior=prior_of(("a",))).notes
    assert "allow for scores 1.01 times as high" in drift


def test_a_calibration_has_thresholds_of_ticks_and_of_a_machine_that_is_off(base: Bundle) -> None:
    fast = Fast(np.zeros(64, np.float32), 12.5)
    found = calibrate_here(held_out(), base.manifest, ("a", "b"), fast=fast, notes=("a note",))
    assert found.tick_threshold == 95.0  # the 95th percentile
    assert found.idle_below_dbfs == -49.9  # 10 dB below the 1st percentile
    assert found.fast_threshold == 12.5
    assert (found.method, found.promised_per_week, found.promised_alarms_per_week) == ("default", 7.0, 0.25)
    assert (found.n_segments, found.n_units, found.n_recordings, found.hours, found.events) == (40, 40, 1, 1.0, 0)
    assert found.score_mean == pytest.approx(np.cosh(0.1))
    assert found.score_std == pytest.approx(np.sinh(0.1) * np.sqrt(40 / 39))
    assert "A note." in found.statement and "a band is 12.5 dB louder" in found.statement
    nothing = replace(held_out(), tick_scores=np.empty(0), tick_levels_dbfs=np.empty(0))
    bare = calibrate_here(nothing, base.manifest, ("a", "b"))
    assert (bare.tick_threshold, bare.idle_below_dbfs, bare.fast_threshold) == (None, None, None)
    low = replace(held_out(), tick_scores=np.full(9, 0.5))
    assert calibrate_here(low, base.manifest, ("a", "b")).tick_threshold is None


def test_no_threshold_is_at_the_median_of_normal_scores(base: Bundle) -> None:
    high = replace(held_out(), sequences=(np.full(40, 9.0),))
    found = calibrate_here(high, base.manifest, ("a", "b"))
    assert found.threshold == found.alarm_threshold == pytest.approx(9.009)
    assert found.score_std is None
    assert "The computed threshold is below the median of normal scores" in found.statement
    one = replace(held_out(), sequences=(np.ones(1),))
    with pytest.raises(ConfigError, match="a threshold needs at least 2 segment scores, got 1"):
        calibrate_here(one, base.manifest, ("a", "b"))


@pytest.mark.parametrize(
    ("threshold", "mean", "ratio"), [(2.0, 1.9, 0.975), (2.0, 1.0, 0.9), (1.0, 1.0, 0.9999), (3.0, 2.5, 0.9167)]
)
def test_an_anomaly_ends_half_way_to_the_mean(threshold: float, mean: float, ratio: float) -> None:
    assert clear_ratio_of(threshold, mean=mean) == ratio


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (0.0, "0 s"),
        (59.0 / 3600, "59 s"),
        (60.0 / 3600, "1 min"),
        (0.5, "30 min"),
        (0.99, "59.4 min"),
        (1.0, "1 h"),
        (30.0, "30 h"),
    ],
)
def test_a_duration_has_a_fitting_unit(hours: float, words: str) -> None:
    assert duration(hours) == words


def test_rates_and_numbers_are_readable() -> None:
    assert [per_week(rate) for rate in (0.25, 20.0, 21.0)] == ["0.25 a week", "20 a week", "3 a day"]
    assert [significant(number) for number in (999.0, 1000.0, -2345.0, 0.00123)] == ["999", "1,000", "-2,340", "0.00123"]


def test_a_report_counts_and_rounds() -> None:
    text = report_text(
        promised=7.0,
        promised_alarms=None,
        file_chance=None,
        events=1,
        bound=14.0,
        hours=0.5,
        n_recordings=2,
        n_units=1,
        notes=("more follows",),
    )
    assert text == (
        "The thresholds are based on 2 recordings, 30 min of normal sound (1 separate segment). The method aims at a rate of "
        "false events of at most 7 a week. A replay raised 1 false event, so the rate is below 14 a week (95 % confidence). "
        "More follows."
    )
