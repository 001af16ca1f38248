"""Networks: what is trained in Keras, and the plain layers that it is folded into for the device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.core.arrays import F32, F64
from train.recipe import NetworkPart


@dataclass(frozen=True)
class Layer:
    """One dense layer: weights (n_in, n_out) and bias (n_out,), float32, then ReLU or nothing."""

    weights: F32
    bias: F32
    relu: bool


def dense_autoencoder(part: NetworkPart, *, mean: F64, deviation: F64) -> Any:
    """A Keras autoencoder (n, n_values) -> (n, n_values), in dB on both sides.

    `mean` and `deviation` (n_values,), dB, standardise the values inside of it when the recipe says so.
    """
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((len(mean),))
    scaled = part.scaling == "standard"
    x = layers.Normalization(mean=mean, variance=deviation**2)(inputs) if scaled else inputs
    for units in part.hidden:
        x = layers.Dense(units, activation=None if part.batch_norm else "relu")(x)
        if part.batch_norm:
            x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(len(mean))(x)
    if scaled:
        x = layers.Rescaling(scale=deviation.tolist(), offset=mean.tolist())(x)
    return tf.keras.Model(inputs, x)


def fold(model: Any) -> list[Layer]:
    """The same function as plain dense layers: normalisation, batch normalisation and rescaling go into the weights."""
    import tensorflow as tf

    keras = tf.keras.layers
    folded: list[Layer] = []
    before: tuple[F64, F64] | None = None  # x * scale + offset, waiting for the next dense layer
    for layer in model.layers:
        if isinstance(layer, keras.Normalization):
            deviation = np.sqrt(np.asarray(layer.variance, np.float64)).reshape(-1)
            before = (1.0 / deviation, -np.asarray(layer.mean, np.float64).reshape(-1) / deviation)
        elif isinstance(layer, keras.Dense):
            weights, bias = (np.asarray(w, np.float64) for w in layer.get_weights())
            if before is not None:
                weights, bias = before[0][:, None] * weights, bias + before[1] @ weights
                before = None
            folded.append(_layer(weights, bias, relu=layer.activation is tf.keras.activations.relu))
        elif isinstance(layer, keras.BatchNormalization):
            gamma, beta, mean, variance = (np.asarray(w, np.float64) for w in layer.get_weights())
            scale = gamma / np.sqrt(variance + layer.epsilon)
            folded[-1] = _scaled(folded[-1], scale, beta - mean * scale)
        elif isinstance(layer, keras.Rescaling):
            folded[-1] = _scaled(folded[-1], np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64))
        elif isinstance(layer, keras.ReLU):
            folded[-1] = Layer(folded[-1].weights, folded[-1].bias, relu=True)
        elif not isinstance(layer, keras.InputLayer):
            raise TypeError(f"layer must be one that folds into dense layers, got {type(layer).__name__}")
    return folded


def plain_network(layers: Sequence[Layer]) -> Any:
    """A Keras model of the folded layers alone, its layers named, so that the export never depends on what came before."""
    import tensorflow as tf

    model = tf.keras.Sequential([tf.keras.Input((layers[0].weights.shape[0],), name="frames")], name="autoencoder")
    for number, layer in enumerate(layers):
        activation = "relu" if layer.relu else None
        model.add(tf.keras.layers.Dense(layer.weights.shape[1], activation=activation, name=f"dense_{number}"))
        model.layers[-1].set_weights([layer.weights, layer.bias])
    return model


def _scaled(layer: Layer, scale: F64, offset: F64) -> Layer:
    """The layer with its output times scale plus offset."""
    return _layer(layer.weights * scale, layer.bias * scale + offset, relu=layer.relu)


def _layer(weights: F64, bias: F64, *, relu: bool) -> Layer:
    return Layer(weights.astype(np.float32), bias.astype(np.float32), relu)
