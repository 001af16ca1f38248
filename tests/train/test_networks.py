"""What is trained and what is exported are the same function."""

import numpy as np
import pytest
import tensorflow as tf

from monitor.bundle.interpreter import TFLiteModel
from monitor.core.arrays import F32
from train.export import to_tflite
from train.networks import dense_autoencoder, fold, plain_network
from train.recipe import NetworkPart

MEAN, DEVIATION = np.linspace(-80.0, -30.0, 20), np.linspace(1.0, 6.0, 20)


def part(*, batch_norm: bool, scaling: str) -> NetworkPart:
    return NetworkPart(hidden=(16, 4, 16), activation="relu", batch_norm=batch_norm, scaling=scaling)  # type: ignore[arg-type]


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
@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_folding_keeps_the_function(batch_norm: bool, scaling: str) -> None:
    model = with_random_weights(dense_autoencoder(part(batch_norm=batch_norm, scaling=scaling), mean=MEAN, deviation=DEVIATION))
    layers = fold(model)
    assert [layer.relu for layer in layers] == [True, True, True, False]
    want, got = model.predict(rows(50), verbose=0), plain_network(layers).predict(rows(50), verbose=0)
    np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())


def test_int8_has_one_weight_scale_a_channel_and_stays_close_to_float() -> None:
    layers = fold(
        with_random_weights(dense_autoencoder(part(batch_norm=True, scaling="standard"), mean=MEAN, deviation=DEVIATION))
    )
    content = to_tflite(layers, representative=rows(500))
    interpreter = tf.lite.Interpreter(model_content=content)
    weights = [
        t
        for t in interpreter.get_tensor_details()
        if t["dtype"] == np.int8 and len(t["shape"]) == 2 and len(t["quantization_parameters"]["scales"]) > 1
    ]
    assert len(weights) == 4
    assert all(len(set(tensor["quantization_parameters"]["scales"])) > 1 for tensor in weights)
    int8 = TFLiteModel(content, n_rows=32).predict(rows(32))
    float32 = TFLiteModel(to_tflite(layers, representative=None), n_rows=32).predict(rows(32))
    assert np.sqrt(np.mean((int8 - float32) ** 2)) < 0.03 * float32.std()
