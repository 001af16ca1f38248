"""Models from elsewhere whose operators docs/bundle.md lists are accepted, in every kind of quantisation, and run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.bundle.interpreter import TFLiteModel
from monitor.bundle.network import check_network
from monitor.errors import BundleError
from train.networks.export import to_tflite
from train.networks.networks import BandStatistics, build_network, device_network
from train.recipes.recipe import load_recipe

RECIPES = ("conv", "dcase", "default", "idnn", "mimii-mel", "toyadmos-fft", "wide")


def pooled(layers: Any) -> list[Any]:
    return [
        layers.Input((16, 16, 1)),
        layers.Conv2D(4, 3, padding="same", activation="relu6"),
        layers.MaxPooling2D(2),
        layers.DepthwiseConv2D(3, padding="same", activation="tanh"),
        layers.AveragePooling2D(2),
        layers.UpSampling2D(4, interpolation="bilinear"),
        layers.Conv2D(1, 3, padding="same"),
    ]


def transposed(layers: Any) -> list[Any]:
    return [
        layers.Input((16, 16, 1)),
        layers.Conv2D(4, 3, strides=2, padding="same"),
        layers.BatchNormalization(),
        layers.LeakyReLU(),
        layers.Conv2DTranspose(1, 3, strides=2, padding="same"),
    ]


def reshaped(layers: Any) -> list[Any]:
    return [
        layers.Input((80,)),
        layers.Reshape((5, 16, 1)),
        layers.Conv2D(2, 3, padding="same", activation="elu"),
        layers.Flatten(),
        layers.Dense(80),
    ]


@pytest.mark.parametrize("make", [pooled, transposed, reshaped])
@pytest.mark.parametrize("kind", ["float32", "int8", "int8 inside", "dynamic", "float16"])
def test_a_network_of_listed_operators_runs(make: Callable[[Any], list[Any]], kind: str) -> None:
    import tensorflow as tf

    network = tf.keras.Sequential(make(tf.keras.layers))
    rows = np.random.default_rng(0).normal(-50.0, 5.0, (16, *network.input_shape[1:])).astype(np.float32)
    converter: Any = tf.lite.TFLiteConverter.from_keras_model(network)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind.startswith("int8"):
        converter.representative_dataset = lambda: ([row[None]] for row in rows)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if kind == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
    model = TFLiteModel(bytes(converter.convert()), n_rows=16)
    predicted = model.predict(rows.reshape(16, -1))
    expected = np.asarray(network(rows)).reshape(16, -1)
    assert np.abs(predicted - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("is_int8", [True, False])
def test_the_models_of_all_recipes_are_accepted(name: str, is_int8: bool) -> None:
    recipe = load_recipe(name)
    n_bands = recipe.front_end.n_bands
    statistics = BandStatistics(np.linspace(-60.0, -40.0, n_bands), np.linspace(3.0, 5.0, n_bands), -100.0, 10.0)
    network = device_network(build_network(recipe, statistics))
    n_in = int(np.prod(network.input_shape[1:]))
    rows = np.random.default_rng(0).normal(-50.0, 5.0, (16, n_in)).astype(np.float32)
    assert check_network(to_tflite(network, representative=rows if is_int8 else None)).row_macs > 10_000


def test_other_operators_are_refused_by_number(tmp_path: Path) -> None:
    import tensorflow as tf

    layers = tf.keras.layers
    network = tf.keras.Sequential([layers.Input((80,)), layers.Dense(80), layers.Softmax()])
    with pytest.raises(BundleError, match="operator 25 is not supported"):
        check_network(to_tflite(network, representative=None))
