"""Keep every finished epoch of a training, so that an interrupted one goes on exactly where it was."""

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
    """One file with the state of model and optimizer after the last finished epoch, replaced whole or not at all.

    Beside it a note says which training that is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "epoch.npz"
        self._note = folder / "of.json"

    def prepare(self, of: Mapping[str, Any], *, resume: bool) -> str | None:
        """Make the folder ready for the training `of`, a JSON object of all that decides its weights.

        Epochs stay only where they are to be gone on with and are of the very same training. The sentence, for people, says
        that and why none are gone on with, where somebody may think so.
        """
        was_there = self._path.is_file()
        of = json.loads(json.dumps(of))
        why = self._differs(of) if resume else "without --resume a training begins anew"
        if was_there and why is None:
            return None
        self.remove()
        self._folder.mkdir(parents=True)
        self._note.write_text(json.dumps(of))
        if was_there:
            return f"the epochs kept of an unfinished training are dropped: {why}"
        return "there are no kept epochs to go on with: training begins anew" if resume else None

    @contextmanager
    def told(self) -> Iterator[None]:
        """An interruption says whether there are epochs to go on with; without any, the folder does not outlast the training."""
        try:
            yield
        except KeyboardInterrupt as interrupt:
            if self._path.is_file():
                raise KeyboardInterrupt("the epochs so far are kept: with --resume the same command goes on") from interrupt
            raise
        finally:
            if not self._path.is_file():
                self.remove()

    def remove(self) -> None:
        """Keep nothing."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _differs(self, of: Mapping[str, Any]) -> str | None:
        """In what the kept training is another one than `of`."""
        try:
            kept = json.loads(self._note.read_bytes())
        except (OSError, ValueError):
            return "it is not known of what"
        keys = sorted(_differing(kept, of))
        return f"what they were trained with differs in {', '.join(keys)}" if keys else None

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


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """The keys, section by section, whose values differ."""
    for key in one.keys() | other.keys():
        mine, yours = one.get(key), other.get(key)
        if isinstance(mine, dict) and isinstance(yours, dict):
            yield from (f"{key}.{within}" for within in _differing(mine, yours))
        elif mine != yours:
            yield key


def _state(model: Any) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
