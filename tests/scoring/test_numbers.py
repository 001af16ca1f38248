"""Limits and formulas of scoring, in numbers that can be checked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from monitor.arrays import F32, F64
from monitor.block import Block
from monitor.errors import ConfigError, ScoreError
from monitor.scoring.bandwidth import edge_hz, empty_bands, is_cut_off, is_cut_off_at
from monitor.scoring.components import Detector, Modulation, Observation, Reconstruction, Spectrum, fit_normal, least_spread_db
from monitor.scoring.components.normal import Normal, ledoit_wolf
from monitor.scoring.fast_path import excess_db, fit_fast, frequent_frame, lasting_frame
from monitor.scoring.filter_bank import EqualBands, MelBands
from monitor.scoring.frames import scorable_frames
from monitor.scoring.front_end import FrontEnd, LogMelSpec, LogSpectrumSpec
from monitor.scoring.mel import hz_to_mel, mel_edges_hz, mel_filters
from monitor.scoring.quality import measure_quality
from monitor.scoring.scorer import TickScore
from monitor.scoring.windows import WindowSpec, frame_columns
from tests.scoring.linear import FRONT_END, TICK, linear_scorer
from tests.signals import hum

SPECTRUM = LogSpectrumSpec(sample_rate_hz=1600, n_fft=32, hop_length=16, n_bins=16)  # bands of 50 Hz


@pytest.mark.parametrize(("rate_hz", "n"), [(1600, 0), (1551, 0), (1550, 1), (1450, 2), (1449, 2), (50, 16)])
def test_a_band_is_empty_from_its_middle_on(rate_hz: int, n: int) -> None:
    assert empty_bands(rate_hz, SPECTRUM) == n


def test_bands_without_expected_sound_do_not_count_as_missing() -> None:
    level = np.full(16, -50.0, np.float32)
    assert empty_bands(1250, SPECTRUM, level) == 4
    for level_db, n in ((-93.9, 4), (-94.1, 3)):  # 6 dB above the floor of -100 dB
        level[15] = level_db
        assert empty_bands(1250, SPECTRUM, level) == n
    loud = np.full(16, 20.0, np.float32)
    for level_db, n in ((-79.9, 4), (-80.1, 3)):  # 100 dB below the loudest
        loud[15] = level_db
        assert empty_bands(1250, SPECTRUM, loud) == n


@pytest.mark.parametrize(("drop_db", "n"), [(14.9, 4), (15.1, 0)])
def test_no_band_is_missing_where_the_expected_level_falls_off_there_itself(drop_db: float, n: int) -> None:
    """Bands 8 to 10 against 12 to 14; the one next to the edge does not count."""
    level = np.full(16, -50.0, np.float32)
    level[11] = 30.0
    level[12:15] -= drop_db
    assert empty_bands(1250, SPECTRUM, level) == n


@pytest.mark.parametrize(
    ("edge", "below_db", "above_db", "found"),
    [
        (12, 0.0, -15.1, True),
        (12, -1.0, -15.1, False),
        (13, 0.0, -40.0, False),  # three bands above it
        (4, 0.0, -40.0, True),
        (3, 0.0, -40.0, False),
        (12, 0.0, -14.9, False),
    ],
)
def test_sound_is_cut_off_by_15_db_between_three_bands_on_either_side(
    edge: int, below_db: float, above_db: float, found: bool
) -> None:
    excess: F64 = np.full(16, below_db)
    excess[edge:] = above_db
    excess[edge - 1] = max(below_db, -3.0)
    excess[edge : edge + 1] = min(above_db, -15.1) if above_db < -15.0 else above_db
    expected = np.full(16, -50.0, np.float32)
    assert is_cut_off(expected + excess, expected) == found


def test_all_of_a_quiet_sound_is_not_cut_off() -> None:
    expected = np.full(16, -50.0, np.float32)
    assert not is_cut_off(expected - 40.0, expected)


@pytest.mark.parametrize(("drop_db", "found"), [(5.9, False), (6.1, True)])
def test_an_edge_in_the_samples_needs_6_db(drop_db: float, found: bool) -> None:
    limits = SPECTRUM.band_limits_hz()
    expected = np.full(16, -50.0, np.float32)
    heard = expected.copy()
    heard[12:] -= drop_db
    heard[11] -= 50.0  # 0.87 x 600 Hz is 522 Hz: bands 7 to 9 are below
    heard[10] -= 50.0
    heard[:7] -= 50.0
    assert is_cut_off_at(600.0, heard, expected, limits) == found
    assert not is_cut_off_at(760.0, heard - 50.0, expected, limits)
    assert not is_cut_off_at(50.0, heard, expected, limits)
    assert is_cut_off_at(750.0, np.where(np.arange(16) == 15, -99.0, -50.0), expected, limits)


def cut(samples: F32, above_hz: float, *, floor: float = 0.0) -> F32:
    spectrum = np.fft.rfft(samples)
    spectrum[round(above_hz * len(samples) / 16000) :] *= floor
    return np.asarray(np.fft.irfft(spectrum), np.float32)


NOISE = np.asarray(0.05 * np.random.default_rng(0).standard_normal(32768), np.float32)


@pytest.mark.parametrize("hz", [1100.0, 4000.0, 7400.0])
def test_an_edge_is_found_within_three_ranges_of_62_hertz(hz: float) -> None:
    found = edge_hz(cut(NOISE, hz), sample_rate_hz=16000)
    assert found is not None
    assert hz - 1.0 <= found <= hz + 190.0


def test_no_edge_is_searched_below_a_kilohertz_or_above_7_600_hertz() -> None:
    assert edge_hz(cut(NOISE, 7650.0), sample_rate_hz=16000) is None
    assert edge_hz(cut(NOISE, 500.0), sample_rate_hz=16000) is None
    assert edge_hz(NOISE, sample_rate_hz=16000) is None
    assert edge_hz(cut(NOISE, 4000.0)[:2047], sample_rate_hz=16000) is None
    assert edge_hz(cut(NOISE, 4000.0)[:2048], sample_rate_hz=16000) is not None
    assert edge_hz(cut(NOISE, 4000.0), sample_rate_hz=4000) is None


def test_white_rest_below_minus_125_db_is_nothing() -> None:
    """Noise of 0.05 has a density of -65 dB per hertz."""
    for floor_db, is_edge in ((-62.0, True), (-57.0, False)):
        sound = cut(NOISE, 4000.0, floor=10.0 ** (floor_db / 20.0))
        assert (edge_hz(sound, sample_rate_hz=16000) is not None) == is_edge


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.tile([0.9989, -0.5], 500), None),
        (np.r_[np.tile([0.5, -0.5], 495), [0.9991] * 10], None),  # one percent
        (np.r_[np.tile([0.5, -0.5], 494), [0.9991] * 12], "clipped"),
        (np.r_[np.tile([0.5, -0.5], 492), [0.0] * 16], "gap"),
        (np.r_[np.tile([0.5, -0.5], 492), [0.0] * 15, [0.5]], None),
        (np.r_[np.tile([0.0, 0.5], 500)], None),
        (np.r_[np.tile([0.0, 0.5], 499), [0.0] * 2], "silent"),
        (np.tile([3.3e-5, -3.3e-5], 500), None),
        (np.tile([3.0e-5, -3.0e-5], 500), "silent"),
        (np.full(1000, 0.00099), "silent"),
        (np.full(1000, -0.0011), "flat_line"),
    ],
)
def test_the_limits_of_signal_quality(samples: F64, reason: str | None) -> None:
    found = measure_quality(np.asarray(samples, np.float32), sample_rate_hz=1600)
    assert found.reason == reason


def test_quality_is_measured_without_the_mean() -> None:
    samples = np.asarray(np.tile([0.4, -0.2], 500), np.float32)
    found = measure_quality(samples, sample_rate_hz=1600, idle_below_dbfs=-10.4)
    assert (found.rms_dbfs, found.peak, found.dc) == pytest.approx((20 * math.log10(0.3), 0.4, 0.1))
    assert found.reason == "idle"
    assert measure_quality(samples, sample_rate_hz=1600, idle_below_dbfs=-10.5).reason is None
    assert measure_quality(-samples, sample_rate_hz=1600).peak == pytest.approx(0.4)
    some = np.asarray([1.0, 0.0, -1.0, 0.5], np.float32)
    quality = measure_quality(some, sample_rate_hz=1600)
    assert (quality.clipped_fraction, quality.zero_fraction) == (0.5, 0.25)


def test_slaneys_scale_is_linear_below_a_kilohertz() -> None:
    assert [hz_to_mel(hz) for hz in (0.0, 500.0, 1000.0, 6400.0)] == pytest.approx([0.0, 7.5, 15.0, 42.0])
    assert mel_edges_hz(n_mels=2, fmin_hz=0.0, fmax_hz=6400.0) == pytest.approx([0.0, 2800 / 3, 1000 * 6.4 ** (13 / 27), 6400.0])


def test_mel_filters_have_equal_areas() -> None:
    filters = mel_filters(sample_rate_hz=16000, n_fft=16384, n_mels=4, fmin_hz=100.0, fmax_hz=900.0)
    assert filters.shape == (4, 8193)
    assert filters.sum(axis=1) * 16000 / 16384 == pytest.approx(np.ones(4), rel=1e-3)
    assert filters.max(axis=1) == pytest.approx(np.full(4, 2.0 / 320.0), rel=0.01)


def test_long_mel_sums_are_those_of_the_whole_matrix() -> None:
    rng = np.random.default_rng(1)
    filters = rng.random((5, 700)).astype(np.float32)
    filters[:, 300:520] = 0.0
    filters[2:, 600:] = 0.0
    spectrum = rng.random((3, 700)).astype(np.float32)
    np.testing.assert_allclose(MelBands(filters)(spectrum), spectrum @ filters.T, rtol=1e-5)


def test_equal_bands_are_means_without_the_last_bin() -> None:
    spectrum = np.arange(9, dtype=np.float32)[None]
    assert EqualBands(n_bins=4, width=2)(spectrum).tolist() == [[0.5, 2.5, 4.5, 6.5]]
    assert EqualBands(n_bins=8, width=1)(spectrum).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("log", "power", "level_db"), [("max", 2.0, -40.0), ("add", 2.0, -36.9897), ("max", 1.0, -20.0), ("max", 2.0, None)]
)
def test_frames_are_levels_over_a_floor(log: str, power: float, level_db: float | None) -> None:
    """A constant of 0.01 / 32 has a power of 1e-4 in the first bin of 32 samples."""
    spec = replace(SPECTRUM, window_fn="boxcar", log=log, power=power, floor=1e-4)  # type: ignore[arg-type]
    samples = np.full(16 * 20 + 16, 0.01 / 32 if level_db else 0.0, np.float32)
    frames = FrontEnd(spec, tick_frames=20).frames(samples)
    assert frames.shape == (20, 16)
    np.testing.assert_allclose(frames[:, 0], -40.0 if level_db is None else level_db, atol=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_rate_hz": 999}, r"sample_rate_hz must be in 1000\.\.384000, got 999"),
        ({"sample_rate_hz": 384_001}, "sample_rate_hz must be in"),
        ({"n_fft": 15}, r"n_fft must be in 16\.\.1\.04858e\+06, got 15"),
        ({"hop_length": 0}, r"hop_length must be in 1\.\.1024, got 0"),
        ({"hop_length": 1025}, r"hop_length must be in 1\.\.1024, got 1025"),
        ({"power": 3.0}, "power must be 1.0"),
        ({"floor": 0.0}, "floor must be above 0 and at most 1, got 0"),
        ({"floor": 1.1}, "floor must be above 0 and at most 1"),
        ({"n_mels": 513}, r"n_mels must be in 1\.\.512, got 513"),
        ({"n_mels": 0}, r"n_mels must be in 1\.\.512, got 0"),
        ({"fmax_hz": 8000.5}, r"fmax_hz must be in 1\.\.8000, got 8000\.5"),
        ({"fmax_hz": 0.5}, r"fmax_hz must be in 1\.\.8000, got 0\.5"),
        ({"fmin_hz": 8000.0}, r"fmin_hz must be in 0\.\.fmax_hz \(8000\), got 8000"),
        ({"fmin_hz": -1.0}, "fmin_hz must be in"),
    ],
)
def test_a_front_end_out_of_range_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(FRONT_END, **change)  # type: ignore[arg-type]


def test_the_ends_of_all_ranges_are_accepted() -> None:
    LogMelSpec(sample_rate_hz=1000, n_fft=16, hop_length=16, n_mels=8, fmax_hz=500.0, floor=1.0)
    LogMelSpec(sample_rate_hz=384_000, n_fft=1 << 20, hop_length=1, n_mels=1, fmax_hz=1.0)
    with pytest.raises(ConfigError, match="n_bins must divide n_fft // 2"):
        replace(SPECTRUM, n_bins=15)
    for n in (0, 1025):
        with pytest.raises(ConfigError, match=rf"n_frames must be in 1\.\.1024, got {n}"):
            WindowSpec(n_frames=n)
        with pytest.raises(ConfigError, match=rf"hop_frames must be in 1\.\.1024, got {n}"):
            WindowSpec(n_frames=1, hop_frames=n)
    assert WindowSpec(n_frames=1024).hop_frames == 1
    WindowSpec(n_frames=1, hop_frames=1024)


def test_columns_are_those_of_the_frames() -> None:
    assert frame_columns((0, 1), n_bands=2, of=2) == slice(None)
    assert frame_columns((0, 2), n_bands=2, of=3) == [0, 1, 4, 5]


def test_the_least_spread_of_a_band_depends_on_its_frequency() -> None:
    limits = np.array([0.0, 7000.0, 8000.0, 15000.0, 15360.0, 16000.0])
    assert least_spread_db(limits, sample_rate_hz=32000).tolist() == [0.5, 0.5, 1.0, 1.0, 6.0]


def test_a_distance_is_scaled_by_the_spread_and_the_noise() -> None:
    rows: F64 = np.array([[-3.0], [3.0]] * 50)
    found = fit_normal(rows, level_db=2.0, noise_db=4.0)
    assert (found.mean[0, 0], found.scale[0]) == (0.0, 5.0)
    assert found.whitening[0, 0] == pytest.approx(1.0 / math.sqrt(1.0 + 0.16))
    assert found.noise == pytest.approx(16.0 / 25.0 / 1.16)
    assert found.distance(np.array([5.8])) == pytest.approx(5.8**2 / 29.0 + found.noise)
    steady = fit_normal(np.zeros((4, 1)))
    assert steady.scale[0] == pytest.approx(math.hypot(0.1, 0.5))
    with pytest.raises(ConfigError, match="statistics need at least 2 normal segments, got 1"):
        fit_normal(np.zeros((1, 1)))


def test_the_nearest_state_counts_and_states_share_their_spread() -> None:
    rows: F64 = np.array([[0.0], [2.0], [10.0], [12.0]])
    found = fit_normal(rows, states=np.array([0, 0, 1, 1]), noise_db=0.0)
    assert found.mean[:, 0].tolist() == [1.0, 11.0]
    assert found.scale[0] == 1.0
    assert found.distance(np.array([9.0])) == pytest.approx(4.0)
    two = Normal(np.zeros((1, 2)), np.array([1.0, 2.0]), np.eye(2), 0.25)
    assert two.distance(np.array([3.0, 4.0])) == pytest.approx((9.0 + 4.0) / 2 + 0.25)


def test_the_shrinkage_of_a_covariance_by_hand() -> None:
    """Four rows at the ends of two axes, 2 and 1 long: fourth moments 16 and 1, squares 4 and 0.25."""
    rows: F64 = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    covariance, shrinkage = ledoit_wolf(rows)
    distance = (4.0 + 0.25) / 2 - 1.25**2
    noise = min((8.5 - 4.25) / 8, distance)
    assert shrinkage == pytest.approx(noise / distance)
    assert covariance == pytest.approx((1 - shrinkage) * np.diag([2.0, 0.5]) + shrinkage * 1.25 * np.eye(2))
    single, unshrunk = ledoit_wolf(np.array([[1.0], [3.0]]))
    assert (single[0, 0], unshrunk) == (1.0, 0.0)
    with pytest.raises(ConfigError, match="a covariance needs at least 1 row, got 0"):
        ledoit_wolf(np.empty((0, 2)))


def observation(frames: F32) -> Observation:
    return Observation(frames, frames - np.float32(2.0), np.array([True] * (len(frames) - 1) + [False]), frames)


def test_the_sums_of_each_component() -> None:
    frames = np.asarray([[0.0, 0.0, 4.0], [1.0, 1.0, 4.0], [4.0, 4.0, 4.0]], np.float32)
    assert Reconstruction("mse").measure(observation(frames)).tolist() == [8.0, 2.0]
    assert Reconstruction("mae").measure(observation(frames)).tolist() == [4.0, 2.0]
    assert Reconstruction("mse").score(np.array([8.0, 2.0])) == 4.0
    assert Reconstruction("mse").score(np.zeros(2)) is None
    assert Spectrum(3).measure(observation(frames)).tolist() == [5.0, 5.0, 12.0, 3.0]
    assert (Spectrum(3).n_sums, Spectrum(3).n_values) == (4, 3)
    modulation = Modulation(n_bands=3, n_groups=2, lags=(1, 2, 4))
    sums = modulation.measure(observation(frames))
    assert sums.tolist() == [1.0 + 9.0, 0.0, 16.0, 0.0, 0.0, 0.0, 2.0, 1.0, 0.0]
    assert (modulation.n_sums, modulation.n_values) == (9, 6)
    values = modulation.values(sums)
    assert values is not None
    assert values == pytest.approx([10 * math.log10(5.0), -20.0, 10 * math.log10(16.0), -20.0, 10 * math.log10(16.0), -20.0])
    assert modulation.values(np.zeros(9)) is None


@pytest.mark.parametrize(("n_groups", "lags"), [(0, (1,)), (4, (1,)), (2, ()), (2, (0,)), (2, (2, 1)), (2, (1, 1))])
def test_impossible_modulation_is_refused(n_groups: int, lags: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="modulation"):
        Modulation(n_bands=3, n_groups=n_groups, lags=lags)
    Modulation(n_bands=3, n_groups=3, lags=(1, 2))


def test_ratios_are_raised_to_a_power_and_averaged() -> None:
    one = Reconstruction("mse")
    detector = Detector([one, one], typical=(2.0, 4.0), powers=(2.0, 0.5))
    assert detector.fuse((4.0, 16.0)) == (4.0 + 2.0) / 2
    assert detector.component_ratios(np.array([4.0, 1.0, 16.0, 1.0])) == (4.0, 2.0)
    assert detector.component_ratios(np.zeros(4)) is None
    assert Detector([one, one], typical=(2.0, 4.0)).fuse((4.0, 16.0)) == 3.0
    with pytest.raises(ScoreError, match="must have a typical score above 0, got 0"):
        Detector([one], typical=(0.0,))
    with pytest.raises(ScoreError, match="a value for each of 2 components, got 1"):
        Detector([one, one])


def test_lasting_and_frequent_levels_are_quartiles() -> None:
    frames = np.arange(8, dtype=np.float32)[:, None]
    assert lasting_frame(frames).tolist() == [2.0]
    assert frequent_frame(frames).tolist() == [6.0]
    assert excess_db(np.asarray([1.0, 5.0], np.float32), np.asarray([0.0, 6.0], np.float32)) == 1.0


def test_the_fast_threshold_is_3_db_over_the_largest_excess_of_a_fifth() -> None:
    rows = np.full((10, 2), -50.0, np.float32)
    limits: F64 = np.array([0.0, 100.0, 200.0])
    quiet = fit_fast(rows, limits_hz=limits)
    assert quiet is not None and quiet.threshold_db == 10.0
    rows[3, 0] = -42.0
    loud = fit_fast(rows, limits_hz=limits)
    assert loud is not None and loud.threshold_db == 11.0
    assert loud.ceiling_db.tolist() == [-42.0, -50.0]
    rows[:, 1] = -90.0
    uneven = fit_fast(rows, limits_hz=np.array([0.0, 100.0, 400.0]))
    assert uneven is not None
    assert uneven.ceiling_db[1] == pytest.approx(-42.0 + 10.0 * math.log10(0.25) - 10.0, abs=1e-3)
    assert "a band is 11 dB louder" in loud.note and "stays at least 3 dB below" in loud.note
    assert fit_fast(rows[:1], limits_hz=limits) is None
    with pytest.raises(ConfigError, match="limits_hz must hold 3 values, got 2"):
        fit_fast(rows, limits_hz=limits[:2])


def test_a_tick_after_one_without_frames_is_fresh() -> None:
    sound = hum(0, 5 * TICK + 512)
    sound[TICK + 512 : 2 * TICK] = 0.0
    ticks = list(scorable_frames([Block(0, sound)], FRONT_END, tick_frames=32))
    assert [(tick.fresh, tick.frames is None) for tick in ticks[:5]] == [
        (True, False),
        (False, True),
        (True, False),
        (False, False),
        (False, False),
    ]


def test_a_tick_has_the_level_of_its_samples() -> None:
    quality = measure_quality(hum(0, TICK), sample_rate_hz=16000)
    assert TickScore(0, 1, quality, None, None, 1).rms_dbfs == quality.rms_dbfs
    assert TickScore(0, 1, None, "gap", None, 0).rms_dbfs is None
    assert linear_scorer().spec.tick_s == 1.024
