"""A clip: one sound file of a data set and all that its layout says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Label = Literal["normal", "anomaly"]
Part = Literal["train", "test"]
Domain = Literal["source", "target"]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One sound file. `recording` is shared by the files (channels, cuts) of one recording: they are never split apart."""

    path: Path
    label: Label
    recording: str
    part: Part | None = None  # where the data set itself says so
    machine: str | None = None  # type of machine: fan, ToyCar, slider
    id: str | None = None  # which individual: id_00
    section: str | None = None
    domain: Domain | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All clips of a folder, in the order of their paths, and the layout that was recognised."""

    root: Path
    layout: str
    clips: tuple[Clip, ...]

    def labelled(self, label: Label) -> tuple[Clip, ...]:
        """The clips with this label."""
        return tuple(clip for clip in self.clips if clip.label == label)
