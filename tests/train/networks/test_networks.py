"""What is trained and what is exported are the same function."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from monitor.arrays import F32
from monitor.bundle.interpreter import TFLiteModel
from monitor.scoring.front_end import LogMelSpec
from monitor.scoring.windows import WindowSpec
from train.networks.export import to_tflite
from train.networks.networks import BandStatistics, build_network, device_network, fold, plain_network
from train.networks.quiet import held_back
from train.recipes.recipe import DenseNetwork, Recipe, load_recipe

MEAN, DEVIATION = np.linspace(-80.0, -30.0, 20), np.linspace(1.0, 6.0, 20)
STATISTICS = BandStatistics(MEAN, DEVIATION, -100.0, 0.0)


def recipe(**network: object) -> Recipe:
    base = load_recipe("mimii-mel")
    front_end = LogMelSpec(sample_rate_hz=16000, n_fft=1024, hop_length=512, n_mels=20, fmax_hz=8000.0)
    settings = {
        "kind": "dense",
        "hidden": (16, 4, 16),
        "batch_norm": False,
        "output": "linear",
        "scaling": "none",
        "predicts": "window",
    }
    part = DenseNetwork.model_validate({**settings, **network})
    return base.model_copy(update={"front_end": front_end, "window": WindowSpec(n_frames=1), "network": part})


def rows(n: int) -> F32:
    return (MEAN + DEVIATION * np.random.default_rng(1).standard_normal((n, 20))).astype(np.float32)


def with_random_weights(model: tf.keras.Model) -> tf.keras.Model:
    """Nothing is zero: biases, moving means and variances, gains and offsets."""
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.Dense):
            weights, bias = layer.get_weights()
            layer.set_weights([weights, rng.normal(0.0, 1.0, bias.shape)])
        elif isinstance(layer, tf.keras.layers.BatchNormalization):
            shape = layer.get_weights()[0].shape
            layer.set_weights(
                [rng.uniform(0.5, 2, shape), rng.normal(0, 1, shape), rng.normal(0, 3, shape), rng.uniform(0.5, 4, shape)]
            )
    return model


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("scaling", "output"), [("none", "linear"), ("standard", "linear"), ("minmax", "sigmoid")])
def test_folding_keeps_the_function(batch_norm: bool, scaling: str, output: str) -> None:
    model = with_random_weights(build_network(recipe(batch_norm=batch_norm, scaling=scaling, output=output), STATISTICS))
    layers = fold(model)
    assert [layer.activation for layer in layers] == ["relu", "relu", "relu", output]
    want, got = model.predict(rows(50), verbose=0), plain_network(layers).predict(rows(50), verbose=0)
    np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())


def test_int8_has_one_weight_scale_a_channel_and_stays_close_to_float(capfd: pytest.CaptureFixture[str]) -> None:
    network = device_network(with_random_weights(build_network(recipe(batch_norm=True, scaling="standard"), STATISTICS)))
    capfd.readouterr()
    content = to_tflite(network, representative=rows(500))
    assert capfd.readouterr().err == ""
    interpreter = tf.lite.Interpreter(model_content=content)
    weights = [
        t
        for t in interpreter.get_tensor_details()
        if t["dtype"] == np.int8 and len(t["shape"]) == 2 and len(t["quantization_parameters"]["scales"]) > 1
    ]
    assert len(weights) == 4
    assert all(len(set(tensor["quantization_parameters"]["scales"])) > 1 for tensor in weights)
    int8 = TFLiteModel(content, n_rows=32).predict(rows(32))
    float32 = TFLiteModel(to_tflite(network, representative=None), n_rows=32).predict(rows(32))
    assert np.sqrt(np.mean((int8 - float32) ** 2)) < 0.03 * float32.std()


def test_what_the_converter_says_is_shown_where_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with held_back():
        os.write(2, b"flags")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError), held_back():
        os.write(2, b"why")
        raise ValueError
    assert capfd.readouterr().err == "why"


def test_a_crash_is_not_held_back() -> None:
    code = "import os; from train.networks.quiet import held_back\nwith held_back(): os.abort()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode < 0
    assert done.stderr.startswith("Fatal Python error: Aborted")
