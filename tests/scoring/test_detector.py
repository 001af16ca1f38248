"""The sums and scores of each component, on normal and abnormal sound."""

import numpy as np
import pytest

from monitor.arrays import F32, F64
from monitor.errors import ConfigError, ScoreError
from monitor.scoring.components import (
    Detector,
    Distance,
    Feature,
    Modulation,
    Observation,
    Reconstruction,
    Spectrum,
    fit_normal,
    nothing_known,
)

N_BANDS = 12
FEATURES: tuple[Feature, ...] = (
    Spectrum(N_BANDS),
    Modulation(n_bands=N_BANDS, n_groups=4, lags=(1, 2, 4)),
)


def frames(seed: int, n: int) -> F32:
    return np.random.default_rng(seed).normal(-40.0, 5.0, (n, N_BANDS)).astype(np.float32)


def observe(rows: F32, *, off: float = 2.0) -> Observation:
    """Windows of two frames, predicted too low by `off` dB; the last of them hangs over the end."""
    padded = np.concatenate((rows, np.zeros((1, N_BANDS), np.float32)))
    target = np.concatenate((padded[:-1], padded[1:]), axis=1)
    return Observation(target, target - np.float32(off), np.arange(len(rows)) < len(rows) - 1, rows)


def values(feature: Feature, *ticks: F32) -> F64:
    found = feature.values(np.sum([feature.measure(observe(tick)) for tick in ticks], axis=0))
    assert found is not None
    return found


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_feature_has_the_declared_sizes(feature: Feature) -> None:
    assert feature.measure(observe(frames(0, 32))).shape == (feature.n_sums,)
    assert values(feature, frames(0, 32)).shape == (feature.n_values,)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_nothing_summed_has_no_values(feature: Feature) -> None:
    assert feature.values(np.zeros(feature.n_sums)) is None


def test_the_spectrum_is_the_mean_over_all_frames_of_all_ticks() -> None:
    ticks = frames(1, 32), frames(2, 7)
    assert values(Spectrum(N_BANDS), *ticks) == pytest.approx(np.concatenate(ticks).astype(np.float64).mean(axis=0))


def test_gain_does_not_change_modulation() -> None:
    rows = frames(3, 32)
    assert values(FEATURES[1], rows + np.float32(6.0)) == pytest.approx(values(FEATURES[1], rows), abs=1e-3)  # float32 frames


def test_modulation_is_the_energy_of_differences_at_each_lag() -> None:
    rows = np.zeros((32, N_BANDS), np.float32)
    rows[::2] = 3.0  # moves at odd lags only
    got = values(Modulation(n_bands=N_BANDS, n_groups=1, lags=(1, 2, 3)), rows)
    assert got == pytest.approx([10 * np.log10(9.0), -20.0, 10 * np.log10(9.0)])


def test_modulation_of_sound_shorter_than_a_lag_takes_the_longest_that_fits() -> None:
    feature = Modulation(n_bands=N_BANDS, n_groups=3, lags=(1, 16))
    assert feature.values(feature.measure(observe(frames(5, 1)))) is None
    short = values(feature, frames(5, 16))
    assert short[:3].tolist() == short[3:].tolist()
    assert values(feature, frames(5, 16), frames(6, 17)).shape == (6,)


@pytest.mark.parametrize("lags", [(1, 2, 4, 8, 16), (3, 31, 40), tuple(range(1, 90))])
def test_modulation_is_the_same_for_few_lags_and_for_too_many_to_compute_at_once(lags: tuple[int, ...]) -> None:
    feature = Modulation(n_bands=N_BANDS, n_groups=3, lags=lags)
    for n in (1, 17, 32, 100):
        rows = frames(6, n)
        groups = rows.reshape(n, 3, -1).mean(axis=2)
        energies = [np.square(groups[lag:] - groups[:-lag]).sum(axis=0) for lag in lags]
        expected = np.concatenate((*energies, [max(0, n - lag) for lag in lags]))
        assert feature.measure(observe(rows)) == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_a_distance_is_about_one_for_what_it_was_fitted_on_and_more_off_the_bands_common_ways() -> None:
    rng = np.random.default_rng(8)
    common = rng.normal(0.0, 4.0, (500, 1)) + rng.normal(0.0, 1.0, (500, N_BANDS))
    normal = fit_normal(common)
    assert np.mean([normal.distance(row) for row in common]) == pytest.approx(1.0, abs=0.1)
    together = normal.mean + 4.0
    apart = normal.mean + 4.0 * np.where(np.arange(N_BANDS) % 2, 1.0, -1.0)
    assert normal.distance(apart) > 10 * normal.distance(together)


def test_a_level_that_may_be_off_widens_that_direction_alone() -> None:
    rows = np.random.default_rng(9).normal(0.0, 0.5, (200, N_BANDS))
    known, loose = fit_normal(rows), fit_normal(rows, level_db=6.0)
    louder = known.mean[0] + 6.0
    tilted = known.mean[0] + np.linspace(-6.0, 6.0, N_BANDS)
    assert known.distance(louder) > 50
    assert loose.distance(louder) < 1
    assert loose.distance(tilted) == pytest.approx(known.distance(tilted), rel=0.05)


def test_a_microphones_noise_may_move_by_a_decibel_however_steady_the_recordings_were() -> None:
    rows = np.random.default_rng(11).normal(0.0, 0.05, (200, N_BANDS))
    normal = fit_normal(rows)
    steady = float(np.median([normal.distance(row) for row in rows]))
    a_quarter = np.where(np.arange(N_BANDS) < N_BANDS // 4, 1.0, 0.0)  # of the bands hold nothing else
    assert steady == pytest.approx(1.0, abs=0.05)
    assert normal.distance(normal.mean[0] + 1.0 * a_quarter) < 2.1
    assert normal.distance(normal.mean[0] + 3.0 * a_quarter) > 9.0


def test_fewer_segments_than_bands_still_give_a_finite_distance() -> None:
    rows = np.random.default_rng(10).normal(0.0, 1.0, (2, N_BANDS))
    assert np.isfinite(fit_normal(rows).distance(np.full(N_BANDS, 9.0)))
    assert np.isfinite(fit_normal(np.zeros((2, N_BANDS))).distance(np.full(N_BANDS, 9.0)))
    with pytest.raises(ConfigError, match="at least 2 normal segments, got 1"):
        fit_normal(rows[:1])


def test_several_components_are_averaged_as_multiples_of_what_is_typical() -> None:
    spectrum = Distance(Spectrum(N_BANDS), nothing_known(N_BANDS))
    detector = Detector([Reconstruction("mse"), spectrum], typical=(2.0, 800.0))
    rows = frames(11, 32)
    sums = detector.measure(observe(rows))
    level = float(np.mean(np.square(rows.astype(np.float64).mean(axis=0))))
    assert detector.component_scores(sums) == pytest.approx((4.0, level))
    assert detector.score(sums) == pytest.approx((4.0 / 2.0 + level / 800.0) / 2)


def test_a_segment_that_one_component_cannot_score_has_no_score() -> None:
    moving = Modulation(n_bands=N_BANDS, n_groups=3, lags=(16,))
    detector = Detector([Reconstruction("mse"), Distance(moving, nothing_known(3))], typical=(1.0, 1.0))
    assert detector.score(detector.measure(observe(frames(12, 16)))) is None


def test_every_component_has_its_typical_value() -> None:
    with pytest.raises(ScoreError, match="a value for each of 2 components, got 1"):
        Detector([Reconstruction("mse"), Reconstruction("mae")])


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_ticks_add_up_whatever_their_order(feature: Feature) -> None:
    ticks = [frames(seed, 32) for seed in range(3)]
    assert values(feature, *ticks) == pytest.approx(values(feature, *ticks[::-1]), rel=1e-12)


def test_groups_of_unequal_width_take_every_band_once() -> None:
    feature = Modulation(n_bands=N_BANDS, n_groups=5, lags=(1,))
    rows = np.zeros((32, N_BANDS), np.float32)
    for band in range(N_BANDS):
        moved = rows.copy()
        moved[::2, band] = 10.0
        assert np.count_nonzero(values(feature, moved) > -19.0) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Modulation(n_bands=4, n_groups=5, lags=(1,)), "modulation.n_groups must be in 1..4, got 5"),
        (
            lambda: Modulation(n_bands=4, n_groups=4, lags=(2, 1)),
            r"modulation.lags_frames must be above 0 and rise, got \[2, 1\]",
        ),
        (lambda: Modulation(n_bands=4, n_groups=4, lags=()), "modulation.lags_frames must be above 0 and rise"),
    ],
)
def test_a_feature_that_makes_no_sense_is_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


def test_a_component_that_is_typically_0_measures_nothing() -> None:
    with pytest.raises(ScoreError, match="component spectrum must have a typical score above 0, got 0"):
        Detector([Reconstruction("mse"), Distance(Spectrum(4), nothing_known(4))], typical=(1.0, 0.0))
