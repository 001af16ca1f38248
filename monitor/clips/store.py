"""The clip folder. Its size limit is enforced before each write; the oldest events are removed first."""

import io
import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from monitor.arrays import F32
from monitor.errors import SinkError
from monitor.files import atomic_write, read_regular

OURS = re.compile(r"([a-z0-9_-]+-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(?:flac|png)(?:\.part)?")

MAX_READ_BYTES = 100_000_000


def clip_stem(machine: str, event_id: str) -> str:
    """The name of an event's files, without the suffix."""
    return f"{machine}-{event_id}"


class ClipStore:
    """A folder of clips and pictures. Other files in it are neither counted nor touched.

    All methods wait for the disk, but `stems` and `pictures` can be read without waiting.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.stems: frozenset[str] = frozenset()  # of the clips in it, as of the last call
        self.pictures: frozenset[str] = frozenset()  # stems of the pictures
        self._max_bytes = max_bytes

    def rescan(self) -> None:
        """List the clips and pictures in the folder, if it can be read."""
        with suppress(OSError):
            paths = [path for files in self._events().values() for path in files]
            self.stems = frozenset(path.stem for path in paths if path.suffix == ".flac")
            self.pictures = frozenset(path.stem for path in paths if path.suffix == ".png")

    def check(self) -> None:
        """Raise SinkError if the folder is not writable."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise SinkError(f"{self.folder}: cannot be written: {error.strerror}") from error

    def save(self, stem: str, files: Mapping[str, bytes]) -> None:
        """Write an event's files, given by suffix. Older events are removed to make room. SinkError if this fails."""
        n_bytes = sum(map(len, files.values()))
        if n_bytes > self._max_bytes:
            raise SinkError(f"{stem}: must have at most {self._max_bytes} bytes (clips.max_mb), got {n_bytes}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(n_bytes, stem)
            for suffix, content in files.items():
                atomic_write(self.folder / f"{stem}{suffix}", content)
        except OSError as error:
            raise SinkError(f"{error.filename or self.folder}: cannot be written: {error.strerror}") from error
        finally:
            self.rescan()

    def read(self, stem: str, suffix: str = ".flac") -> bytes:
        """Read an event's clip or picture; SinkError if this fails."""
        try:
            return read_regular(self.folder / f"{stem}{suffix}", max_bytes=MAX_READ_BYTES, within=self.folder)
        except OSError as error:
            raise SinkError(f"{error.filename}: cannot be read: {error.strerror}") from error

    def _make_room(self, n_bytes: int, stem: str) -> None:
        """Remove events, the oldest first, until `n_bytes` fit. Earlier files of this event are always removed."""
        events = self._events()
        sizes = {name: sum(path.stat().st_size for path in files) for name, files in events.items()}
        ages = {name: max(path.stat().st_mtime_ns for path in files) for name, files in events.items()}
        for name in sorted(events, key=lambda name: (name != stem, ages[name], name)):
            if name != stem and sum(sizes.values()) + n_bytes <= self._max_bytes:
                break
            for path in events[name]:
                path.unlink(missing_ok=True)
            del sizes[name]

    def _events(self) -> dict[str, list[Path]]:
        """Our files, grouped by event."""
        found = defaultdict(list)
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                name = OURS.fullmatch(path.name)
                if name is not None and path.is_file() and not path.is_symlink():
                    found[name[1]].append(path)
        return found


def encode_flac(samples: F32, *, rate_hz: int, title: str, comment: str) -> bytes:
    """Samples (n,), full scale [-1, 1], as 16-bit FLAC; lossless for samples of 16 bits."""
    import soundfile  # imported late, to save memory while there are no events

    whole = np.clip(np.rint(samples * np.float32(32_768)), -32_768, 32_767).astype(np.int16)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate_hz, 1, "PCM_16", format="FLAC") as sound:
        sound.title = title
        if comment:  # setting an empty one is an error
            sound.comment = comment
        sound.write(whole)
    return file.getvalue()


def shorten_flac(flac: bytes, *, max_bytes: int) -> bytes:
    """Shorten a clip to as much of its beginning as fits."""
    import soundfile

    while len(flac) > max_bytes:
        with soundfile.SoundFile(io.BytesIO(flac)) as sound:
            n = int(sound.frames * 0.95 * max_bytes / len(flac))
            samples = sound.read(n, dtype="float32")
            rate_hz, title, comment = sound.samplerate, sound.title, sound.comment
        flac = encode_flac(samples, rate_hz=rate_hz, title=title, comment=comment)
    return flac
