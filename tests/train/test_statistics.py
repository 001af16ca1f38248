"""The detector's statistics come from normal segments alone, and put every component on one scale."""

import numpy as np
import pytest

from monitor.core.arrays import F32, F64
from monitor.core.detector import (
    Detector,
    Distance,
    Observation,
    Reconstruction,
    Shape,
    Spectrum,
    fit_statistics,
    nothing_known,
)
from monitor.core.errors import ConfigError
from train.features import WindowSet
from train.fit import representative_windows
from train.recipe import load_recipe

N_BANDS = 8


def blank() -> Detector:
    features = (Spectrum(N_BANDS), Shape(N_BANDS))
    distances = [Distance(feature, nothing_known(N_BANDS)) for feature in features]
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


def test_normal_sound_never_heard_before_scores_about_one() -> None:
    fitted = fit_statistics(blank(), training=segments(0, 60), held_out=segments(1, 20), gain_db=0.0).detector(blank())
    scores = [fitted.score(sums) for sums in segments(2, 200)]
    assert np.median(np.array(scores, float)) == pytest.approx(1.0, abs=0.15)
    held_out = np.array([fitted.component_scores(sums) for sums in segments(1, 20)], float)
    assert fitted.fuse(np.median(held_out, axis=0).tolist()) == pytest.approx(1.0)


def test_what_sounds_different_scores_high() -> None:
    fitted = fit_statistics(blank(), training=segments(0, 60), held_out=segments(1, 20), gain_db=0.0).detector(blank())
    assert min(fitted.score(sums) or 0.0 for sums in segments(3, 20, tilt_db=6.0)) > 3.0


def test_a_gain_that_was_allowed_for_is_forgiven_and_a_tilt_is_not() -> None:
    strict, loose = (
        fit_statistics(blank(), training=segments(0, 60), held_out=segments(1, 20), gain_db=gain_db).detector(blank())
        for gain_db in (0.0, 6.0)
    )

    def median(detector: Detector, sums: F64) -> float:
        return float(np.median([detector.score(one) or np.nan for one in sums]))

    louder, tilted = segments(4, 20, louder_db=6.0), segments(4, 20, tilt_db=6.0)
    assert median(strict, louder) > 2.0
    assert median(loose, louder) < 1.2
    assert median(loose, tilted) > 3.0


def test_one_component_needs_no_scale() -> None:
    alone = Detector([Distance(Shape(N_BANDS), nothing_known(N_BANDS))])
    sums = segments(0, 30)
    rows = np.array([blank().parts(one)[2] for one in sums])
    fitted = fit_statistics(alone, training=rows, held_out=rows[:0], gain_db=0.0)
    assert fitted.typical == ()
    assert fitted.detector(alone).score(rows[0]) == pytest.approx(1.0, abs=0.9)


def test_nothing_held_out_is_an_error() -> None:
    with pytest.raises(ConfigError, match="held-out recordings must be at least half a segment long"):
        fit_statistics(blank(), training=segments(0, 30), held_out=segments(1, 1)[:0], gain_db=0.0)


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
