"""A bundle with several components is read from plain arrays, each of them checked."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.bundle import load_bundle
from monitor.bundle.detector import make_detector, make_features
from monitor.bundle.load import make_scorer, sha256
from monitor.bundle.manifest import DetectorSpec
from monitor.bundle.statistics import read_statistics, write_statistics
from monitor.errors import BundleError
from monitor.explain.reference import Reference
from monitor.scoring.components import fit_normal
from monitor.scoring.golden import golden_score
from monitor.scoring.scorer import score_stream
from tests.signals import blocks, even_blocks, hum

ALL: dict[str, Any] = {
    "components": ["reconstruction", "spectrum", "modulation"],
    "modulation": {"n_groups": 16, "lags_frames": [1, 2, 4, 8, 16]},
}
Arrays = dict[str, Any]


@pytest.fixture
def bundle(demo_bundle: Path, tmp_path: Path) -> Path:
    """The shipped bundle with all components, as if normal sound were noise."""
    folder = tmp_path / "demo-fan"
    shutil.copytree(demo_bundle, folder)
    plain = load_bundle(folder)
    assert plain.expected is not None
    spec = DetectorSpec.model_validate_json(json.dumps(ALL))
    features = make_features(spec, n_bands=64)
    rng = np.random.default_rng(0)
    normals = {one.name: fit_normal(rng.normal(-50.0, 3.0, (40, one.n_values)), level_db=3.0) for one in features}
    content = write_statistics(plain.expected, normals=normals, typical=[2.0, 1.5, 1.2], powers=[2.0, 1.0, 1.0])
    statistics = read_statistics(content, n_bands=64, sample_rate_hz=16000, features=features, n_components=3)
    detector = make_detector(spec, error="mse", n_bands=64, statistics=statistics)
    model = (folder / "model.tflite").read_bytes()
    scorer = make_scorer(model, spec=plain.manifest.scorer_spec, layout="flat", detector=detector)
    edit(folder, lambda manifest: manifest["golden"].update(score=golden_score(scorer)))
    edit(folder, lambda manifest: manifest["detector"].update(ALL))
    replace_statistics(folder, content)
    return folder


def test_the_noise_term_of_a_distance_is_stored() -> None:
    features = make_features(DetectorSpec.model_validate_json(json.dumps(ALL)), n_bands=64)
    normals = {one.name: fit_normal(np.zeros((40, one.n_values))) for one in features}
    zeros, ones = np.zeros(64, np.float32), np.ones(64, np.float32)
    content = write_statistics(Reference(zeros, ones), normals=normals, typical=[1.0] * 3, powers=[1.0] * 3)
    found = read_statistics(content, n_bands=64, sample_rate_hz=16000, features=features, n_components=3).normals
    for name, normal in normals.items():
        assert found[name].noise == normal.noise > 0.9


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def replace_statistics(folder: Path, content: bytes) -> None:
    (folder / "statistics.npz").write_bytes(content)
    edit(folder, lambda manifest: manifest["detector"]["statistics"].update(sha256=sha256(content)))


def change_arrays(folder: Path, change: Callable[[Arrays], object]) -> None:
    arrays = dict(np.load(folder / "statistics.npz"))
    change(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    replace_statistics(folder, buffer.getvalue())


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_components_are_fused(bundle: Path) -> None:
    scorer = load_bundle(bundle).scorer()
    ticks = score_stream(scorer, blocks(hum(1, 200_000)))
    assert ticks[-1].score is not None
    assert ticks[-1].score > 0


def test_the_same_bits_in_whatever_blocks(bundle: Path) -> None:
    scorer, signal = load_bundle(bundle).scorer(), hum(1, 200_000)
    whole = score_stream(scorer, blocks(signal))
    for size in (160, 1_000, 16_000, 77_777):
        assert score_stream(scorer, even_blocks(signal, size)) == whole


def test_the_nearest_of_several_states_counts(bundle: Path) -> None:
    signal = hum(1, 200_000)
    one = score_stream(load_bundle(bundle).scorer(), blocks(signal))
    change_arrays(bundle, lambda a: a.update(spectrum_mean=np.concatenate((a["spectrum_mean"], a["spectrum_mean"] + 500.0))))
    both = score_stream(load_bundle(bundle).scorer(), blocks(signal))
    assert [tick.score or 0.0 for tick in both] == pytest.approx([tick.score or 0.0 for tick in one])  # other shapes, last bits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("powers"), "statistics must hold expected_mean_db, expected_spread_db, spectrum_mean, "),
        (lambda a: a.pop("modulation_noise"), "statistics must hold expected_mean_db, expected_spread_db, spectrum_mean, "),
        (lambda a: a.pop("spectrum_mean"), "statistics must hold expected_mean_db, expected_spread_db, spectrum_mean, "),
        (lambda a: a.update(colour=np.ones(1)), "statistics must hold expected_mean_db, expected_spread_db, spectrum_mean, "),
        (lambda a: a.update(typical=np.ones(2)), "statistics.typical must be (3,) finite numbers, got (2,)"),
        (lambda a: a.update(typical=np.zeros(3)), "statistics.typical must be above 0, got 0"),
        (
            lambda a: a.update(modulation_whitening=np.eye(79)),
            "statistics.modulation_whitening must be (80, 80) finite numbers, got (79, 79)",
        ),
        (
            lambda a: a.update(spectrum_mean=np.ones((2, 63))),
            "statistics.spectrum_mean must be (2, 64) finite numbers, got (2, 63)",
        ),
        (
            lambda a: a.update(spectrum_mean=np.ones((0, 64))),
            "statistics.spectrum_mean must be (1, 64) finite numbers, got (0, 64)",
        ),
        (lambda a: a["spectrum_mean"].fill(np.nan), "statistics.spectrum_mean must be (1, 64) finite numbers, got (1, 64)"),
        (lambda a: a["spectrum_scale"].fill(-1.0), "statistics.spectrum_scale must be above 0, got -1"),
        (
            lambda a: a.update(spectrum_mean=np.array([["a"] * 64])),
            "statistics.spectrum_mean must be an array of float32, in the order of C, got ",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(bundle: Path, change: Callable[[Arrays], object], message: str) -> None:
    change_arrays(bundle, change)
    assert message in refusal(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"components": []}, "detector: components must be one or more, each once, got []"),
        ({"components": ["spectrum", "spectrum"]}, "components must be one or more, each once, got ['spectrum', 'spectrum']"),
        ({"modulation": None}, "detector: modulation must be given if and only if components contain modulation"),
        ({"modulation": {"n_groups": 65, "lags_frames": [1]}}, "modulation.n_groups must be in 1..64, got 65"),
        (
            {"modulation": {"n_groups": 16, "lags_frames": [1, 32]}},
            "modulation.lags_frames must be below tick_frames (32), got 32",
        ),
        ({"statistics": None}, "detector: statistics must be there for components reconstruction, spectrum"),
    ],
)
def test_a_detector_that_makes_no_sense_is_refused(bundle: Path, change: dict[str, Any], message: str) -> None:
    edit(bundle, lambda manifest: manifest["detector"].update(change))
    assert message in refusal(bundle)


def test_one_component_may_be_any(bundle: Path) -> None:
    change_arrays(bundle, lambda a: [a.pop(key) for key in list(a) if not key.startswith(("expected", "spectrum"))])
    only = {"components": ["spectrum"], "modulation": None}
    edit(bundle, lambda manifest: manifest["detector"].update(only))
    assert "golden score must be" in refusal(bundle)  # everything else fits


def test_a_tick_may_have_a_threshold_of_its_own(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest["calibration"].update(tick_threshold=7.5))
    assert load_bundle(bundle).manifest.calibration.tick_threshold == 7.5
    edit(bundle, lambda manifest: manifest["calibration"].update(tick_threshold=0.0))
    assert "calibration.tick_threshold: Input should be greater than 0, got 0.0" in refusal(bundle)
