"""Networks: the Keras model that is trained, and the plain form that the device runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from monitor.arrays import F32, F64
from train.recipes.recipe import ConvNetwork, DenseNetwork, Recipe


@dataclass(frozen=True)
class BandStatistics:
    """Statistics of the training frames, dB: mean and standard deviation (n_bands,) of each band, minimum and maximum of all."""

    mean: F64
    deviation: F64
    low: float
    high: float


@dataclass(frozen=True)
class Layer:
    """One dense layer: weights (n_in, n_out), bias (n_out,), an activation, then `after[0] * y + after[1]` where given."""

    weights: F32
    bias: F32
    activation: Literal["relu", "sigmoid", "linear"] = "linear"
    after: tuple[float, float] | None = None


def build_network(recipe: Recipe, statistics: BandStatistics) -> Any:
    """The recipe's Keras autoencoder, dB in and dB out; scaling happens inside, on both sides."""
    if isinstance(recipe.network, ConvNetwork):
        return _conv_autoencoder(recipe.network, recipe, statistics)
    spec = recipe.scorer_spec
    return _dense_autoencoder(recipe.network, statistics, n_in=len(spec.input_frames), n_out=len(spec.target_frames))


def device_network(model: Any) -> Any:
    """The same function for the device: dense layers with everything folded into their weights, or the model as it is."""
    import tensorflow as tf

    if any(isinstance(layer, tf.keras.layers.Conv2D) for layer in model.layers):
        return model
    return plain_network(fold(model))


def _dense_autoencoder(part: DenseNetwork, statistics: BandStatistics, *, n_in: int, n_out: int) -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    n_bands = len(statistics.mean)
    x = inputs = tf.keras.Input((n_in * n_bands,))
    if part.scaling != "none":
        scale, offset = _scaling(part, statistics, n_frames=n_in)
        x = layers.Rescaling(1.0 / scale, -offset / scale)(x)
    for units in part.hidden:
        x = layers.Dense(units, activation=None if part.batch_norm else "relu")(x)
        if part.batch_norm:
            x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(n_out * n_bands, activation=part.output)(x)
    if part.scaling != "none":
        x = layers.Rescaling(*_scaling(part, statistics, n_frames=n_out))(x)
    return tf.keras.Model(inputs, x)


def _scaling(part: DenseNetwork, statistics: BandStatistics, *, n_frames: int) -> tuple[F64, F64]:
    """Scale and offset (n_values,) or (1,): dB = scale * inside + offset."""
    if part.scaling == "minmax":
        return np.array([statistics.high - statistics.low]), np.array([statistics.low])
    return np.tile(statistics.deviation, n_frames), np.tile(statistics.mean, n_frames)


def _conv_autoencoder(part: ConvNetwork, recipe: Recipe, statistics: BandStatistics) -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    x = inputs = tf.keras.Input((recipe.window.n_frames, recipe.front_end.n_bands, 1))
    mean, deviation = statistics.mean[:, None], statistics.deviation[:, None]  # broadcast over frames
    if part.scaling == "standard":
        x = layers.Rescaling(1.0 / deviation, -mean / deviation)(x)
    for filters in part.filters:
        x = layers.Conv2D(filters, part.kernel, strides=2, padding="same", activation="relu")(x)
    for filters in part.filters[-2::-1]:
        x = layers.Conv2D(filters, part.kernel, padding="same", activation="relu")(
            layers.UpSampling2D(2, interpolation="bilinear")(x)
        )
    x = layers.Conv2D(1, part.kernel, padding="same")(layers.UpSampling2D(2, interpolation="bilinear")(x))
    if part.scaling == "standard":
        x = layers.Rescaling(deviation, mean)(x)
    return tf.keras.Model(inputs, x)


def fold(model: Any) -> list[Layer]:
    """A dense model as plain layers: scaling and batch normalisation go into the weights, exactly."""
    import tensorflow as tf

    keras = tf.keras.layers
    folded: list[Layer] = []
    before: tuple[F64, F64] | None = None  # x * scale + offset, to fold into the next dense layer
    for layer in model.layers:
        if isinstance(layer, keras.Rescaling):
            scale, offset = (np.asarray(value, np.float64).reshape(-1) for value in (layer.scale, layer.offset))
            if not folded:
                before = scale, offset
            elif folded[-1].activation == "linear":
                folded[-1] = _scaled(folded[-1], scale, offset)
            else:
                folded[-1] = Layer(folded[-1].weights, folded[-1].bias, folded[-1].activation, (scale.item(), offset.item()))
        elif isinstance(layer, keras.Dense):
            weights, bias = (np.asarray(w, np.float64) for w in layer.get_weights())
            if before is not None:
                scale, offset = (np.broadcast_to(value, weights.shape[:1]) for value in before)
                weights, bias, before = scale[:, None] * weights, bias + offset @ weights, None
            folded.append(_layer(weights, bias, layer.activation.__name__))
        elif isinstance(layer, keras.BatchNormalization):
            gamma, beta, mean, variance = (np.asarray(w, np.float64) for w in layer.get_weights())
            scale = gamma / np.sqrt(variance + layer.epsilon)
            folded[-1] = _scaled(folded[-1], scale, beta - mean * scale)
        elif isinstance(layer, keras.ReLU):
            folded[-1] = Layer(folded[-1].weights, folded[-1].bias, "relu")
        elif not isinstance(layer, keras.InputLayer):
            raise TypeError(f"layer must be one that folds into dense layers, got {type(layer).__name__}")
    return folded


def plain_network(layers: Sequence[Layer]) -> Any:
    """A Keras model of the folded layers alone, its layers named, so that the export does not depend on earlier models."""
    import tensorflow as tf

    model = tf.keras.Sequential([tf.keras.Input((layers[0].weights.shape[0],), name="frames")], name="autoencoder")
    for number, layer in enumerate(layers):
        dense = tf.keras.layers.Dense(layer.weights.shape[1], activation=layer.activation, name=f"dense_{number}")
        model.add(dense)
        dense.set_weights([layer.weights, layer.bias])
        if layer.after is not None:
            model.add(tf.keras.layers.Rescaling(*layer.after, name=f"after_{number}"))
    return model


def _scaled(layer: Layer, scale: F64, offset: F64) -> Layer:
    """The layer with its output times scale plus offset."""
    return _layer(layer.weights * scale, layer.bias * scale + offset, layer.activation)


def _layer(weights: F64, bias: F64, activation: Any) -> Layer:
    return Layer(weights.astype(np.float32), bias.astype(np.float32), activation)
