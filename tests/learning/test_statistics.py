"""The detector's statistics come from normal segments alone, and put every component on one scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.arrays import F32, F64
from monitor.errors import ConfigError
from monitor.learning.fit import Fitted, cross_fit, fit_normals
from monitor.scoring.components import Detector, Distance, Observation, Reconstruction, Spectrum, nothing_known
from train.features.frames import WindowSet
from train.networks.training import representative_windows
from train.recipes.recipe import load_recipe

N_BANDS = 8


@dataclass(frozen=True)
class Contrast(Spectrum):
    """A second feature that sees a tilt, but no gain: the mean frame minus its own mean."""

    name: ClassVar[str] = "contrast"
    carries_level: ClassVar[bool] = False

    def values(self, sums: F64) -> F64 | None:
        mean = super().values(sums)
        return None if mean is None else mean - mean.mean()


def blank() -> Detector:
    distances = [Distance(feature, nothing_known(N_BANDS)) for feature in (Spectrum(N_BANDS), Contrast(N_BANDS))]
    return Detector([Reconstruction("mse"), *distances], typical=(1.0, 1.0, 1.0))


def segments(seed: int, n: int, *, louder_db: float = 0.0, tilt_db: float = 0.0) -> F64:
    rng = np.random.default_rng(seed)
    detector = blank()
    off = louder_db + np.linspace(-tilt_db, tilt_db, N_BANDS)
    found = []
    for _ in range(n):
        rows = (rng.normal(-40.0, 1.0, N_BANDS) + off + rng.normal(0.0, 2.0, (32, N_BANDS))).astype(np.float32)
        found.append(detector.measure(Observation(rows, rows - np.float32(3.0), np.ones(32, bool), rows)))
    return np.array(found)


def fitted_detector(rows: F64, *, gain_db: float = 0.0) -> Detector:
    """The detector that has learned rows of sums, typical scores from five folds of them."""
    found = cross_fit(blank(), np.array_split(rows, 5), gain_db=gain_db)
    return Fitted(fit_normals(blank(), rows, gain_db=gain_db), found.typical, found.powers).detector(blank())


def scores(detector: Detector, rows: F64) -> F64:
    return np.array([detector.score(sums) for sums in rows], float)


def test_normal_sound_never_heard_before_scores_about_one() -> None:
    assert np.median(scores(fitted_detector(segments(0, 60)), segments(2, 200))) == pytest.approx(1.0, abs=0.15)


def test_what_sounds_different_scores_high() -> None:
    assert scores(fitted_detector(segments(0, 60)), segments(3, 20, tilt_db=6.0)).min() > 3.0


def test_a_gain_that_was_allowed_for_is_forgiven_and_a_tilt_is_not() -> None:
    strict, loose = (fitted_detector(segments(0, 60), gain_db=gain_db) for gain_db in (0.0, 6.0))
    louder, tilted = segments(4, 20, louder_db=6.0), segments(4, 20, tilt_db=6.0)
    assert np.median(scores(strict, louder)) > 2.0
    assert np.median(scores(loose, louder)) < 1.2
    assert np.median(scores(loose, tilted)) > 3.0


def test_one_component_needs_no_scale() -> None:
    alone = Detector([Distance(Contrast(N_BANDS), nothing_known(N_BANDS))])
    rows = np.array([blank().parts(one)[2] for one in segments(0, 30)])
    fitted = Fitted(fit_normals(alone, rows, gain_db=0.0)).detector(alone)
    assert fitted.score(rows[0]) == fitted.component_scores(rows[0])[0]  # type: ignore[index]
    assert np.median(scores(fitted, rows)) == pytest.approx(1.0, abs=0.5)


def test_one_component_is_cross_fitted_by_its_raw_score() -> None:
    alone = Detector([Distance(Contrast(N_BANDS), nothing_known(N_BANDS))])
    rows = np.array([blank().parts(one)[2] for one in segments(0, 30)])
    found = cross_fit(alone, np.array_split(rows, 5), gain_db=0.0)
    assert (found.typical, found.powers) == ((), ())
    judge = found.without_fold[0].detector(alone)
    assert judge.score(rows[0]) == judge.component_scores(rows[0])[0]  # type: ignore[index]


def cross_fitted(folds: Sequence[F64]) -> list[F64]:
    """The scores of each fold by the statistics of the others."""
    found = cross_fit(blank(), folds, gain_db=0.0)
    return [scores(fit.detector(blank()), rows) for fit, rows in zip(found.without_fold, folds, strict=True)]


@pytest.mark.parametrize("n_folds", [2, 5])
def test_the_median_of_cross_fitted_scores_is_about_one(n_folds: int) -> None:
    for seed in range(5):
        found = np.concatenate(cross_fitted(np.array_split(segments(seed, 60), n_folds)))
        assert np.median(found) == pytest.approx(1.0, abs=0.1)


def test_cross_fitted_scores_are_like_those_of_unheard_sound_and_unlike_those_of_what_was_learned() -> None:
    """Statistics that know a row put it too near."""
    learned, unheard, unknown = [], [], []
    for seed in range(10):
        rows = segments(seed, 20)
        detector = fitted_detector(rows)
        learned.append(np.median(scores(detector, rows)))
        unheard.append(np.median(scores(detector, segments(100 + seed, 100))))
        unknown.append(np.median(np.concatenate(cross_fitted(np.array_split(rows, 5)))))
    assert np.mean(unknown) == pytest.approx(1.0, abs=0.02)
    assert 0.93 < np.mean(unheard) < 1.02  # all rows teach a little more than four fifths of them
    assert np.mean(learned) < 0.92


def test_the_statistics_without_a_fold_do_not_depend_on_it() -> None:
    folds = np.array_split(segments(0, 60), 5)
    found, other = (cross_fit(blank(), [first, *folds[1:]], gain_db=0.0) for first in (folds[0], segments(9, 12, tilt_db=9.0)))
    assert np.array_equal(found.without_fold[0].normals["spectrum"].mean, other.without_fold[0].normals["spectrum"].mean)
    assert not np.array_equal(found.without_fold[1].normals["spectrum"].mean, other.without_fold[1].normals["spectrum"].mean)
    expected = fit_normals(blank(), np.concatenate(folds[1:]), gain_db=0.0)
    assert np.array_equal(found.without_fold[0].normals["contrast"].whitening, expected["contrast"].whitening)


def drifting(seed: int, n: int = 60) -> F64:
    """Segments whose spectrum tilts more and more: from first to last by 12 dB."""
    return np.concatenate([segments(100 * seed + at, 1, tilt_db=12.0 * at / n) for at in range(n)])


def test_drift_is_seen_in_the_order_of_time_and_not_in_shuffled_rows() -> None:
    for seed in range(3):
        rows = drifting(seed)
        in_order = cross_fit(blank(), np.array_split(rows, 5), gain_db=0.0).drift
        shuffled = np.random.default_rng(seed).permutation(rows)
        assert in_order > 0.1
        assert cross_fit(blank(), np.array_split(shuffled, 5), gain_db=0.0).drift == 0.0


def test_the_drift_is_eight_times_the_certain_rise() -> None:
    """The value with the reach of 8, which `benchmarks.decide` justifies."""
    assert cross_fit(blank(), np.array_split(drifting(0), 5), gain_db=0.0).drift == pytest.approx(0.60559, rel=1e-3)


def test_steady_sound_has_next_to_no_drift() -> None:
    found = [cross_fit(blank(), np.array_split(segments(seed, 60), 5), gain_db=0.0).drift for seed in range(10)]
    assert np.median(found) == 0.0
    assert max(found) < 0.1


@given(spread=st.floats(0.0, 1.0), seed=st.integers(0, 20))
@settings(deadline=None, max_examples=15)
def test_the_error_is_raised_to_a_power_and_distances_are_not(spread: float, seed: int) -> None:
    rows = segments(seed, 20)
    rows[:, 0] *= np.exp(np.random.default_rng(seed).normal(0.0, spread, len(rows)))  # the sum of squared errors
    error, *distances = cross_fit(blank(), np.array_split(rows, 5), gain_db=0.0).powers
    assert 0.25 <= error <= 4.0
    assert distances == [1.0, 1.0]


def test_the_power_gives_the_error_the_spread_of_the_distances() -> None:
    """Their geometric mean, at most 0.2; the power is between a quarter and four."""

    def power(spread: float) -> tuple[float, float]:
        rows = segments(0, 60)
        rows[:, 0] = rows[:, 1] * np.exp(np.random.default_rng(0).normal(0.0, spread, len(rows)))
        found = cross_fit(blank(), np.array_split(rows, 5), gain_db=0.0)
        folds = [fit.detector(blank()) for fit in found.without_fold]
        logs = [
            np.log(one.component_scores(row)[1:])  # type: ignore[index]
            for one, fold in zip(folds, np.array_split(rows, 5), strict=True)
            for row in fold
        ]
        wanted = min(0.2, float(np.sqrt(np.prod(np.std(logs, axis=0)))))
        return found.powers[0], wanted / np.std(np.log(rows[:, 0] / rows[:, 1])) if spread else math.inf

    found, expected = power(0.1)
    assert found == pytest.approx(expected, rel=1e-6)
    assert power(0.0)[0] == 4.0
    assert power(3.0)[0] == 0.25


def test_one_fold_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cross-fitting needs at least 2 folds, got 1"):
        cross_fit(blank(), [segments(0, 30)], gain_db=0.0)


def test_sound_that_is_the_same_all_along_is_an_error() -> None:
    rows = np.repeat(segments(0, 1), 10, axis=0)
    rows[:, 0] = 0.0  # a network that errs by nothing; distances have a least spread
    with pytest.raises(ConfigError, match="the normal sound does not vary"):
        cross_fit(blank(), np.array_split(rows, 5), gain_db=0.0)


def test_representative_windows_are_at_gains_as_in_training() -> None:
    frames = np.zeros((500, 128), np.float32)
    windows = WindowSet([frames], n_frames=5)

    def levels(gain_db: float) -> F32:
        recipe = load_recipe("default").model_copy(update={"gain_db": gain_db})
        rows = representative_windows(recipe, windows)
        assert np.ptp(rows, axis=1).max() == 0.0  # a whole window is shifted by one gain
        return rows[:, 0]

    assert not levels(0.0).any()
    assert levels(3.0).std() == pytest.approx(3.0, rel=0.15)
    assert np.array_equal(levels(3.0), levels(3.0))
