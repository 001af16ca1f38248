"""Train a recipe's network on windows of normal sound."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from monitor.arrays import F32
from monitor.errors import SourceError, StethosError
from monitor.scoring.windows import frame_columns
from train.features.frames import WindowSet
from train.networks.backup import Backup, Progress
from train.networks.networks import BandStatistics, build_network
from train.networks.quiet import load_tensorflow
from train.recipes.recipe import Recipe


class DivergedError(StethosError):
    """A loss or weight is no longer a finite number."""


@dataclass(frozen=True)
class Trained:
    """The trained Keras model, and its losses per epoch."""

    model: Any
    history: Mapping[str, list[float]]


def fit_network(
    recipe: Recipe,
    windows: WindowSet,
    validation: WindowSet,
    *,
    seed: int,
    backup: Backup | None = None,
    bar: "tqdm[Any] | None" = None,
) -> Trained:
    """Train for the recipe's epochs; the same seed on the same machine gives the same bits.

    With a `backup` every epoch is saved there, and an interrupted run resumes from it. A `bar` counts epochs; without one
    Keras prints a line for each.
    """
    tf = load_tensorflow()
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    statistics = BandStatistics(*windows.band_statistics(), *windows.range())
    if statistics.low == statistics.high:
        raise SourceError(f"the recordings are silent in the recipe's bands ({statistics.low:g} dB in all of them)")
    model = build_network(recipe, statistics)
    training = recipe.training
    model.compile(tf.keras.optimizers.Adam(training.learning_rate), loss=training.loss)
    batches = _batches(recipe, windows, seed=seed)
    progress = backup.restore(model) if backup is not None else Progress()
    stopping = training.early_stopping if len(validation) else None

    if bar is not None:
        bar.update(progress.n_epochs)

    def is_over() -> bool:
        return progress.n_epochs >= training.epochs or (
            stopping is not None and progress.n_epochs > 0 and progress.n_without_gain >= stopping.patience
        )

    def finish(epoch: int, logs: dict[str, float]) -> None:
        weights = model.get_weights()
        if not np.isfinite(
            [*logs.values(), *(np.ptp(values) for values in weights)]
        ).all():  # behind a ReLU, a bad weight may not show in the loss
            rate = f"training.learning_rate (got {training.learning_rate:g}) may be too high"
            raise DivergedError(f"training diverged in epoch {epoch + 1}: a loss or weight is not finite; {rate}")
        progress.add(logs)
        if bar is not None:
            bar.update()
        if stopping is not None and progress.n_without_gain == 0:
            progress.best = weights
        if backup is not None:
            backup.keep(model, progress)
        model.stop_training = is_over()

    if not is_over():
        model.fit(
            batches,
            validation_data=_batches(recipe, validation, seed=None) if len(validation) else None,
            initial_epoch=progress.n_epochs,
            epochs=training.epochs,
            shuffle=False,  # the batches shuffle themselves by epoch, so that a resumed run sees the same order
            callbacks=[
                tf.keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.shuffle(epoch), on_epoch_end=finish)
            ],
            verbose=2 if bar is None else 0,
        )
    if progress.best is not None:
        model.set_weights(progress.best)
    return Trained(model, progress.losses)


def representative_windows(recipe: Recipe, windows: WindowSet, *, n: int = 1000) -> F32:
    """Model inputs (k, n_in), dB, spread evenly over the training set, with random gains as in training."""
    which = np.unique(np.linspace(0, len(windows) - 1, n).astype(np.intp))
    return _louder(windows.windows(which), recipe.gain_db, (0,))[:, _columns(recipe, recipe.scorer_spec.input_frames)]


def _columns(recipe: Recipe, frames: tuple[int, ...]) -> slice | list[int]:
    return frame_columns(frames, n_bands=recipe.front_end.n_bands, of=recipe.window.n_frames)


def _louder(batch: F32, gain_db: float, seed: Sequence[int]) -> F32:
    """Windows (k, n_values), dB, with random microphone gains, normally distributed around 0 dB."""
    if not gain_db:
        return batch
    gains = np.random.default_rng(seed).standard_normal((len(batch), 1), np.float32)
    return np.asarray(batch + np.float32(gain_db) * gains)


def _batches(recipe: Recipe, windows: WindowSet, *, seed: int | None) -> Any:
    import tensorflow as tf

    spec = recipe.scorer_spec
    inputs, targets = _columns(recipe, spec.input_frames), _columns(recipe, spec.target_frames)
    size = recipe.training.batch_size
    n_seen = min(len(windows), recipe.training.max_windows or len(windows))
    patch = (recipe.window.n_frames, recipe.front_end.n_bands, 1) if recipe.layout == "image" else (-1,)

    class Batches(tf.keras.utils.PyDataset):  # type: ignore[misc]
        """Batches of model inputs and targets, of at most `max_windows` windows. Without a seed, these are evenly spread and
        always the same; with one, every epoch has other ones in a new order and at new gains.
        """

        def __init__(self) -> None:
            super().__init__()
            self._order = np.unique(np.linspace(0, len(windows) - 1, n_seen).astype(np.intp))
            self._epoch = 0

        def shuffle(self, epoch: int) -> None:
            """Set the order of an epoch, whatever the ones before it were. The epochs of a pass have no window in common."""
            if seed is not None:
                number, part = divmod(epoch, max(1, len(windows) // max(1, n_seen)))
                order = np.random.default_rng([seed, number]).permutation(len(windows))
                self._order = order[part * n_seen : (part + 1) * n_seen]
                self._epoch = epoch

        def __len__(self) -> int:
            return math.ceil(n_seen / size)

        def __getitem__(self, index: int) -> tuple[F32, F32]:
            batch = windows.windows(self._order[index * size : (index + 1) * size])
            if seed is not None:
                batch = _louder(batch, recipe.gain_db, (seed, self._epoch, index))
            return batch[:, inputs].reshape(len(batch), *patch), batch[:, targets].reshape(len(batch), *patch)

    return Batches()
