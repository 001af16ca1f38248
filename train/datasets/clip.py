"""A clip: one sound file of a data set and all that its layout says of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from monitor.audio.recording import file_sha256

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
    id: str | None = None  # which individual: id_00, case1
    section: str | None = None  # 00
    domain: Domain | None = None
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def file_channel(self) -> int | None:
        """The one channel, from 1, that the file holds, where each channel is a file of its own."""
        return int(self.attributes["channel"]) if "channel" in self.attributes else None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All clips of a folder, in the order of their paths, and the layout that was recognised.

    `skipped` says why by path: sound files of the layout that hold no machine, such as ToyADMOS' environmental noise, links
    that lead nowhere, folders that were seen already.
    """

    root: Path
    layout: str
    clips: tuple[Clip, ...]
    skipped: Mapping[Path, str] = field(default_factory=dict, hash=False)

    def labelled(self, label: Label) -> tuple[Clip, ...]:
        """The clips with this label."""
        return tuple(clip for clip in self.clips if clip.label == label)

    def relative(self, clip: Clip) -> str:
        """A clip's POSIX path under the root: its name in lists."""
        return clip.path.relative_to(self.root).as_posix()

    def sha256(self) -> str:
        """A hash over the names and contents of all clips."""
        digest = hashlib.sha256()
        for clip in self.clips:
            digest.update(f"{self.relative(clip)}\0{file_sha256(clip.path)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
