"""A machine with several normal states has a mean for each; one without has one, however its sound varies."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from monitor.arrays import F64
from monitor.learning.fit import Fitted, cross_fit, fit_normals
from monitor.scoring.components import Detector, Distance, Observation, Reconstruction, Spectrum, nothing_known
from train.calibration.states import find_normal_states, find_states

N_BANDS = 32
STATES = np.stack((np.full(N_BANDS, -60.0), np.linspace(-30.0, -50.0, N_BANDS)))  # idle and under load


def sound(states: F64, *, n: int, seed: int, vary: Callable[[np.random.Generator, int], F64] | None = None) -> F64:
    """Vectors (n, bands) of segments in one of the states each, that vary together in three ways and each for itself."""
    rng = np.random.default_rng(seed)
    ways = rng.normal(0.0, (2.0, 1.0, 0.5), (N_BANDS, 3))
    along = rng.normal(size=(n, 3))
    if vary is not None:
        along[:, 0] = vary(rng, n)
    rows: F64 = states[rng.integers(len(states), size=n)] + along @ ways.T + rng.normal(0.0, 0.7, (n, N_BANDS))
    return rows


@pytest.mark.parametrize("n", [24, 60, 200])
@pytest.mark.parametrize(
    "vary",
    [
        None,
        lambda rng, n: rng.uniform(-1.7, 1.7, n),
        lambda rng, n: np.linspace(-1.7, 1.7, n),
        lambda rng, n: rng.standard_t(3, n),
    ],
    ids=["evenly", "uniformly", "drifting", "with-outliers"],
)
def test_sound_of_one_state_has_one_mean(vary: Callable[[np.random.Generator, int], F64] | None, n: int) -> None:
    found = Counter(int(find_states(sound(STATES[:1], n=n, seed=seed, vary=vary), max_states=4).max()) for seed in range(10))
    assert found[0] >= 9


@pytest.mark.parametrize("k", [2, 3, 4])
def test_each_state_is_found(k: int) -> None:
    rng = np.random.default_rng(k)
    states = rng.normal(-45.0, 8.0, (k, N_BANDS))
    rows = sound(states, n=30 * k, seed=k)
    labels = find_states(rows, max_states=4)
    means = np.array([rows[labels == state].mean(axis=0) for state in range(labels.max() + 1)])
    assert len(means) == k
    nearest = np.abs(means[:, None] - states).mean(axis=2).min(axis=0)
    assert nearest.max() < 1.5


def test_a_state_needs_segments_and_no_more_are_found_than_asked_for() -> None:
    rows = np.concatenate((sound(STATES[:1], n=60, seed=0), sound(STATES[1:], n=4, seed=1)))
    assert not find_states(rows, max_states=4).any()
    rows = sound(STATES, n=100, seed=2)
    assert not find_states(rows, max_states=1).any()
    assert find_states(rows, max_states=2).max() == 1
    assert not find_states(rows[:15], max_states=2).any()


def test_segments_that_are_all_alike_are_one_state() -> None:
    assert not find_states(np.full((40, N_BANDS), -100.0), max_states=4).any()


def sums(rows: F64) -> F64:
    return np.column_stack((np.ones((len(rows), 2)), rows, np.ones(len(rows))))


def test_a_fault_between_two_states_is_found_only_with_both_known() -> None:
    blank = Detector([Reconstruction("mse"), Distance(Spectrum(N_BANDS), nothing_known(N_BANDS))], typical=(1.0, 1.0))
    rows = sound(STATES, n=120, seed=3)
    normal = sums(sound(STATES, n=60, seed=4))
    faulty = sums(sound(STATES.mean(axis=0)[None], n=60, seed=5))

    def missed(max_states: int) -> float:
        """Share of the faulty ones no higher than the highest normal one."""
        states = find_normal_states(blank, sums(rows), max_states=max_states)
        found = cross_fit(blank, np.array_split(sums(rows), 5), gain_db=0.0, states=states)
        normals = fit_normals(blank, sums(rows), gain_db=0.0, states=states)
        fitted = Fitted(normals, found.typical, found.powers)
        detector = fitted.detector(blank)
        assert len(fitted.normals["spectrum"].mean) == max_states
        top = max(detector.score(one) or 0.0 for one in normal)
        return float(np.mean([(detector.score(one) or 0.0) <= top for one in faulty]))

    assert missed(1) > 0.9
    assert missed(2) == 0.0


def test_the_same_segments_give_the_same_bits() -> None:
    rows = sound(STATES, n=100, seed=6)
    assert np.array_equal(find_states(rows, max_states=4), find_states(rows.copy(), max_states=4))


def test_a_detector_with_states_measures_as_one_without() -> None:
    detector = Detector([Distance(Spectrum(N_BANDS), nothing_known(N_BANDS))])
    frames = np.full((32, N_BANDS), -40.0, np.float32)
    assert detector.score(detector.measure(Observation(frames, frames, np.ones(32, bool), frames))) == pytest.approx(1600.0)


@pytest.mark.parametrize("seed", [400, 1071, 1251])
def test_a_state_that_nothing_is_in_ends_the_search(seed: int) -> None:
    """A Gaussian may hold a share of many segments and most of none; cut again and again, it never came to an end."""
    rows = np.random.default_rng(seed).exponential(size=(22, 3))
    assert not find_states(rows, max_states=4).any()
