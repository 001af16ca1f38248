import os
from pathlib import Path

import numpy as np
import pytest

from monitor.bundle import load_bundle
from monitor.bundle.interpreter import RUNTIME, TFLiteModel
from monitor.bundle.quantisation import Quantisation
from monitor.errors import BundleError
from tests.signals import noise


def test_the_runtime_is_the_one_meant() -> None:
    assert os.environ.get("EXPECT_RUNTIME", "ai-edge-litert") == RUNTIME


def test_quantisation_rounds_and_clips() -> None:
    quantisation = Quantisation(np.float32(0.5), 10)
    values = np.array([0.0, 0.24, 0.26, 0.74, -0.26, 1e6, -1e6], np.float32)
    assert quantisation.quantise(values).tolist() == [10, 10, 11, 11, 9, 127, -128]
    assert quantisation.dequantise(np.array([10, 11, -128], np.int8)).tolist() == [0.0, 0.5, -69.0]


@pytest.mark.skipif(RUNTIME == "tflite-runtime", reason="tflite-runtime does not verify a model before it reads it")
@pytest.mark.parametrize("kept", [0, 3, 8, 64, 1000, 35_000, 70_000])
def test_a_model_cut_short_is_refused_even_with_the_right_hash(demo_bundle: Path, kept: int) -> None:
    content = (demo_bundle / "model.tflite").read_bytes()[:kept]
    with pytest.raises(BundleError, match="model cannot be loaded"):
        TFLiteModel(content, n_rows=32)


def test_rows_do_not_influence_each_other(demo_bundle: Path) -> None:
    model = TFLiteModel((demo_bundle / "model.tflite").read_bytes(), n_rows=32)
    windows = (noise(1, 32 * 320, level=10.0) - 60).reshape(32, 320)
    predicted = model.predict(windows)
    changed = windows.copy()
    changed[:16] = 0.0
    assert np.array_equal(model.predict(changed)[16:], predicted[16:])


def test_float_and_int8_exports_agree(demo_bundle: Path) -> None:
    expected = load_bundle(demo_bundle).expected
    assert expected is not None
    windows = noise(1, 32 * 320, level=3.0).reshape(32, 320) + np.tile(expected.mean_db, 5)
    int8, float32 = (
        TFLiteModel((demo_bundle / name).read_bytes(), n_rows=32).predict(windows)
        for name in ("model.tflite", "report/model_float32.tflite")
    )
    assert int8.shape == float32.shape == (32, 320)
    assert np.sqrt(np.mean((int8 - float32) ** 2)) < 0.5  # dB: two steps of the output
