"""A training with early stopping that was interrupted goes on to the same bytes, wherever that was."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from monitor.arrays import F32
from monitor.scoring.front_end import LogMelSpec
from monitor.scoring.windows import WindowSpec
from train.features.frames import WindowSet
from train.networks.backup import Backup
from train.networks.training import Trained, fit_network
from train.recipes.recipe import EarlyStopping, Recipe, load_recipe

PATIENCE = 3


def frames(seed: int, n: int) -> F32:
    return np.random.default_rng(seed).normal(-50.0, 5.0, (n, 8)).astype(np.float32)


def recipe() -> Recipe:
    base = load_recipe("mimii-mel")
    training = {
        **dict(base.training),
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 0.05,  # so much that the validation loss soon rises again
        "early_stopping": EarlyStopping(patience=PATIENCE),
    }
    front_end = LogMelSpec(sample_rate_hz=16000, n_fft=1024, hop_length=512, n_mels=8, fmax_hz=8000.0)
    update = {"front_end": front_end, "window": WindowSpec(n_frames=2), "training": base.training.model_copy(update=training)}
    return base.model_copy(update=update)


class Interrupted(WindowSet):
    """Windows during whose n-th batch somebody presses Ctrl-C."""

    batches_left = 10**9

    def windows(self, which: NDArray[np.intp]) -> F32:
        self.batches_left -= 1
        if self.batches_left < 0:
            raise KeyboardInterrupt
        return super().windows(which)


def run(backup: Path | None, *, interrupt_after: int | None = None) -> Trained:
    windows = Interrupted([frames(0, 65)], n_frames=2)  # four batches
    if interrupt_after is not None:
        windows.batches_left = interrupt_after
    if backup is not None:
        backup.mkdir(exist_ok=True)
    kept = None if backup is None else Backup(backup)
    return fit_network(recipe(), windows, WindowSet([frames(1, 65)], n_frames=2), seed=0, backup=kept)


@pytest.fixture(scope="module")
def whole() -> Trained:
    return run(None)


def same(one: Trained, other: Trained) -> bool:
    weights = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    return one.history == other.history and all(a.tobytes() == b.tobytes() for a, b in weights)


def test_it_stops_early_with_the_best_weights(whole: Trained) -> None:
    losses = whole.history["val_loss"]
    assert 4 <= len(losses) < 30
    assert len(losses) - 1 - int(np.argmin(losses)) == PATIENCE
    validation = WindowSet([frames(1, 65)], n_frames=2)
    rows = validation.windows(np.arange(len(validation)))
    assert float(np.mean((whole.model.predict(rows, verbose=0) - rows) ** 2)) == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("before_the_end", [1, 2, 3, 5])
def test_an_interruption_in_any_epoch_changes_nothing(before_the_end: int, whole: Trained, tmp_path: Path) -> None:
    epochs = len(whole.history["loss"]) - before_the_end
    with pytest.raises((KeyboardInterrupt, tf.errors.OpError)):
        run(tmp_path / "backup", interrupt_after=4 * epochs + 2)
    assert same(run(tmp_path / "backup"), whole)


def test_a_training_that_was_over_is_not_trained_on(whole: Trained, tmp_path: Path) -> None:
    run(tmp_path / "backup")
    assert same(run(tmp_path / "backup", interrupt_after=4), whole)
