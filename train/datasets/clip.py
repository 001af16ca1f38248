"""A clip: one sound file of a data set, with the labels read from its path."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from monitor.audio.recording import file_sha256
from monitor.errors import SourceError
from train.datasets.parallel import n_cores

Label = Literal["normal", "anomaly"]
Part = Literal["train", "test"]
Domain = Literal["source", "target"]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One sound file. Files (channels, cuts) of one recording share `recording` and are never split apart."""

    path: Path
    label: Label
    recording: str
    part: Part | None = None  # where the data set specifies it
    machine: str | None = None  # type of machine: fan, ToyCar, slider
    id: str | None = None  # of the individual machine: id_00, case1
    section: str | None = None  # 00
    domain: Domain | None = None
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def file_channel(self) -> int | None:
        """The channel, from 1, in layouts that store each channel as a separate file."""
        return int(self.attributes["channel"]) if "channel" in self.attributes else None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All clips of a folder, in the order of their paths, and the layout that was recognised.

    `skipped` gives the reason by path: files of other machines, without a label or without a machine (ToyADMOS'
    environmental noise), broken links, and folders that were already read.
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
        """A hash over the names and contents of all clips; of a file that cannot be read, its name alone."""
        digest = hashlib.sha256()
        for clip, content in zip(self.clips, hashes_of([clip.path for clip in self.clips]), strict=True):
            digest.update(f"{self.relative(clip)}\0{content}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def hash_of(path: Path) -> str:
    """SHA-256 of a file's bytes, read again only if the file has changed; empty if it cannot be read."""
    with suppress(SourceError, OSError):
        state = path.stat()
        return _hash_of(path, state.st_ino, state.st_size, state.st_mtime_ns)
    return ""


def hashes_of(paths: Sequence[Path]) -> list[str]:
    """The same for many files, on all cores: hashing needs no lock of Python's."""
    with ThreadPoolExecutor(n_cores()) as threads:
        return list(threads.map(hash_of, paths))


@lru_cache(maxsize=1 << 17)
def _hash_of(path: Path, _inode: int, _size: int, _mtime_ns: int) -> str:
    return file_sha256(path)
