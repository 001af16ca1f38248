"""A plain folder: recordings of normal sound under `normal/`."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import soundfile

from monitor.core.errors import SourceError
from monitor.sources.recording import Recording

_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} | {".oga", ".opus", ".aif"}


@dataclass(frozen=True)
class Dataset:
    """Recordings of normal sound, in the order of their names."""

    root: Path
    normal: tuple[Recording, ...]

    def sha256(self) -> str:
        """A hash over the names and contents of all recordings."""
        digest = hashlib.sha256()
        for recording in self.normal:
            digest.update(f"{recording.path.relative_to(self.root).as_posix()}\0{recording.sha256()}\n".encode())
        return digest.hexdigest()


def read_folder(root: Path, *, sample_rate_hz: int, channel: int | None = None) -> Dataset:
    """Find and open what lies under `root/normal`; SourceError names what cannot be used."""
    folder = root / "normal"
    if not folder.is_dir():
        raise SourceError(f"{root}: must hold a folder `normal` with recordings of the machine when all is well")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise SourceError(f"{folder}: must hold sound files (WAV, FLAC, Ogg, MP3, …), found none")
    return Dataset(root, tuple(Recording(path, sample_rate_hz=sample_rate_hz, channel=channel) for path in paths))
