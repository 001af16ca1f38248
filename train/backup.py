"""Keep every finished epoch of a training, so that an interrupted one goes on exactly where it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np


class Backup:
    """One file with the state of model and optimizer after the last finished epoch, replaced whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "epoch.npz"

    def restore(self, model: Any) -> dict[str, list[float]]:
        """Put a kept state into a compiled model; returns the losses of the epochs done, none where nothing is kept."""
        model.optimizer.build(model.trainable_variables)
        if not self._path.is_file():
            return {}
        with np.load(self._path, allow_pickle=False) as kept:
            for number, variable in enumerate(_state(model)):
                variable.assign(kept[f"v{number}"])
            losses: dict[str, list[float]] = json.loads(str(kept["losses"]))
        return losses

    def keep(self, model: Any, losses: dict[str, list[float]]) -> None:
        """Keep the state after an epoch and the losses so far."""
        arrays: dict[str, Any] = {f"v{number}": np.asarray(variable) for number, variable in enumerate(_state(model))}
        aside = self._path.with_suffix(".part")
        with aside.open("wb") as file:
            np.savez(file, losses=np.array(json.dumps(losses)), **arrays)
        aside.replace(self._path)


def _state(model: Any) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
