"""Train a recipe's network on windows of normal sound."""

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.core.arrays import F32
from train.features import WindowSet
from train.networks import Layer, dense_autoencoder, fold
from train.recipe import Recipe


@dataclass(frozen=True)
class Trained:
    """The trained network, folded, and its losses an epoch."""

    layers: list[Layer]
    history: dict[str, list[float]]


def fit_network(recipe: Recipe, windows: WindowSet, held_out: WindowSet, *, seed: int) -> Trained:
    """Train for the recipe's epochs; the same seed on the same machine gives the same bits."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    mean, deviation = (np.tile(values, recipe.window.n_frames) for values in windows.band_statistics())
    network = dense_autoencoder(recipe.network, mean=mean, deviation=deviation)
    training = recipe.training
    network.compile(tf.keras.optimizers.Adam(training.learning_rate), loss=training.loss)
    history = network.fit(
        _batches(windows, training.batch_size, shuffle_seed=seed),
        validation_data=_batches(held_out, training.batch_size, shuffle_seed=None) if len(held_out) else None,
        epochs=training.epochs,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    losses = {key: [float(loss) for loss in values] for key, values in history.history.items()}
    return Trained(fold(network), losses)


def representative_windows(windows: WindowSet, *, n: int = 1000) -> F32:
    """Windows (k, n_values), dB, spread evenly over the whole training set."""
    which = np.unique(np.linspace(0, len(windows) - 1, n).astype(np.intp))
    return windows.windows(which)


def _batches(windows: WindowSet, batch_size: int, *, shuffle_seed: int | None) -> Any:
    import tensorflow as tf

    class Batches(tf.keras.utils.PyDataset):  # type: ignore[misc]
        """Batches of windows as input and target, in a new order every epoch where a seed is given."""

        def __init__(self) -> None:
            super().__init__()
            self._order = np.arange(len(windows))
            self._rng = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
            self.on_epoch_end()

        def __len__(self) -> int:
            return math.ceil(len(windows) / batch_size)

        def __getitem__(self, index: int) -> tuple[F32, F32]:
            batch = windows.windows(self._order[index * batch_size : (index + 1) * batch_size])
            return batch, batch

        def on_epoch_end(self) -> None:
            if self._rng is not None:
                self._rng.shuffle(self._order)

    return Batches()
