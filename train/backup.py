"""Keep every finished epoch of a training, so that an interrupted one goes on exactly where it was."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Progress:
    """How far a training is: losses an epoch, and the weights of the epoch with the least validation loss, if one watches."""

    losses: dict[str, list[float]] = field(default_factory=dict)
    best: list[Any] | None = None

    @property
    def n_epochs(self) -> int:
        """Epochs done."""
        return len(self.losses.get("loss", []))

    @property
    def n_without_gain(self) -> int:
        """Epochs since the validation loss was least."""
        watched = self.losses.get("val_loss", [])
        return len(watched) - 1 - watched.index(min(watched)) if watched else 0

    def add(self, logs: dict[str, float]) -> None:
        """One more epoch."""
        for key, loss in logs.items():
            self.losses.setdefault(key, []).append(float(loss))


class Backup:
    """One file with the state of model and optimizer after the last finished epoch, replaced whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "epoch.npz"

    def restore(self, model: Any) -> Progress:
        """Put a kept state into a compiled model; returns the progress so far, none where nothing is kept."""
        model.optimizer.build(model.trainable_variables)
        if not self._path.is_file():
            return Progress()
        with np.load(self._path, allow_pickle=False) as kept:
            for number, variable in enumerate(_state(model)):
                variable.assign(kept[f"v{number}"])
            best = [kept[f"b{number}"] for number in range(len(model.weights))] if "b0" in kept else None
            return Progress(json.loads(str(kept["losses"])), best)

    def keep(self, model: Any, progress: Progress) -> None:
        """Keep the state after an epoch and the progress so far."""
        arrays: dict[str, Any] = {f"v{number}": np.asarray(variable) for number, variable in enumerate(_state(model))}
        arrays |= {f"b{number}": weights for number, weights in enumerate(progress.best or ())}
        aside = self._path.with_suffix(".part")
        with aside.open("wb") as file:
            np.savez(file, losses=np.array(json.dumps(progress.losses)), **arrays)
        aside.replace(self._path)


def _state(model: Any) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
