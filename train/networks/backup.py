"""Save every finished epoch of a training, so that an interrupted one resumes exactly where it stopped."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Progress:
    """Progress of a training: losses per epoch, and the weights of the epoch with the lowest validation loss, if there is one."""

    losses: dict[str, list[float]] = field(default_factory=dict)
    best: list[Any] | None = None

    @property
    def n_epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.losses.get("loss", []))

    @property
    def n_without_gain(self) -> int:
        """Epochs since the lowest validation loss."""
        watched = self.losses.get("val_loss", [])
        return len(watched) - 1 - watched.index(min(watched)) if watched else 0

    def add(self, logs: dict[str, float]) -> None:
        """Add the losses of an epoch."""
        for key, loss in logs.items():
            self.losses.setdefault(key, []).append(float(loss))


class Backup:
    """One file with the state of model and optimizer after the last finished epoch, replaced atomically.

    A second file identifies the training.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "epoch.npz"
        self._note = folder / "of.json"

    def prepare(self, of: Mapping[str, Any], *, resume: bool) -> str | None:
        """Prepare the folder for the training `of`, a JSON object of everything that determines its weights.

        Epochs stay only where they are to be gone on with and are of the very same training. The sentence, for people, says
        that and why none are gone on with, where somebody may think so.
        """
        was_there = self._path.is_file()
        of = json.loads(json.dumps(of))
        why = self._differs(of) if resume else "--resume was not given"
        if was_there and why is None:
            return None
        self.remove()
        self._folder.mkdir(parents=True)
        self._note.write_text(json.dumps(of))
        if was_there:
            return f"discarding the saved epochs of an unfinished training: {why}"
        return "there are no saved epochs to resume; training starts from the beginning" if resume else None

    @contextmanager
    def announced(self) -> Iterator[None]:
        """On interruption, say whether the training can be resumed; a folder without any epochs is removed."""
        try:
            yield
        except KeyboardInterrupt as interrupt:
            if self._path.is_file():
                raise KeyboardInterrupt(
                    "finished epochs are saved; run the same command with --resume to continue"
                ) from interrupt
            raise
        finally:
            if not self._path.is_file():
                self.remove()

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _differs(self, of: Mapping[str, Any]) -> str | None:
        """The difference between the saved training and `of`; None where there is none."""
        try:
            kept = json.loads(self._note.read_bytes())
        except (OSError, ValueError):
            return "their record cannot be read"
        keys = sorted(_differing(kept, of))
        return f"they were trained with different {', '.join(keys)}" if keys else None

    def restore(self, model: Any) -> Progress:
        """Restore a saved state into a compiled model; returns its progress, empty where nothing is saved."""
        model.optimizer.build(model.trainable_variables)
        if not self._path.is_file():
            return Progress()
        with np.load(self._path, allow_pickle=False) as kept:
            for number, variable in enumerate(_state(model)):
                variable.assign(kept[f"v{number}"])
            best = [kept[f"b{number}"] for number in range(len(model.weights))] if "b0" in kept else None
            return Progress(json.loads(str(kept["losses"])), best)

    def keep(self, model: Any, progress: Progress) -> None:
        """Save the state after an epoch and the progress so far."""
        arrays: dict[str, Any] = {f"v{number}": np.asarray(variable) for number, variable in enumerate(_state(model))}
        arrays |= {f"b{number}": weights for number, weights in enumerate(progress.best or ())}
        aside = self._path.with_suffix(".part")
        with aside.open("wb") as file:
            np.savez(file, losses=np.array(json.dumps(progress.losses)), **arrays)
        aside.replace(self._path)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """The keys whose values differ, with their sections."""
    for key in one.keys() | other.keys():
        mine, yours = one.get(key), other.get(key)
        if isinstance(mine, dict) and isinstance(yours, dict):
            yield from (f"{key}.{within}" for within in _differing(mine, yours))
        elif mine != yours:
            yield key


def _state(model: Any) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
