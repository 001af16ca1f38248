"""One recording session on disk: numbered FLAC clips of unbroken sound, only whole ones, gone on with after an interruption.

`OUT/normal/fan_20261121T100000Z-0001.flac`, `…-0002.flac` and so on: `train` takes the clips of one session for cuts of one
recording. What is gone on with after half an hour or more is of another time, and so has a name of its own. A hidden file
beside them stays until the session is complete; it is locked by who records.
"""

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from monitor.errors import SinkError
from monitor.files import lock

PAUSE_S = 1_800.0  # after so long clips are no more of the same recording; `train` takes such a gap for one, too
SHORTEST_S = 2.0  # a shorter clip is of no use to anybody
SPARE_BYTES = 100_000_000  # stay free on the disk
MAX_CHANNELS = 8  # of FLAC
_STAMP = f"{'[0-9]' * 8}T{'[0-9]' * 6}Z"
_SUBTYPES = {"int16": "PCM_16", "int24": "PCM_24", "int32": "PCM_24", "float32": "PCM_24"}


@dataclass(frozen=True, kw_only=True)
class Take:
    """What is to be recorded; a session is gone on with where this is the same."""

    name: str
    rate_hz: int
    n_channels: int
    sample_format: str  # a key of ring.SAMPLE_BYTES
    about: Mapping[str, str]  # goes into every clip as its comment

    def __post_init__(self) -> None:
        if self.n_channels > MAX_CHANNELS:
            raise SinkError(f"FLAC holds at most {MAX_CHANNELS} channels, got {self.n_channels}: choose one (--channel N)")

    @property
    def bytes_per_s(self) -> int:
        """At most: as if FLAC saved nothing."""
        return self.rate_hz * self.n_channels * (2 if self.sample_format == "int16" else 3)


class Session:
    """Clips in `folder`, which already exists, of at most `clip_s` seconds, until there are `wanted_s` seconds of them."""

    def __init__(self, folder: Path, take: Take, *, clip_s: float, wanted_s: float) -> None:
        self.folder = folder
        self._take = take
        self._clip_frames = round(clip_s * take.rate_hz)
        self._shortest_frames = round(SHORTEST_S * take.rate_hz)
        self._note = folder / f".{take.name}.session"
        self._lock = _lock(self._note)
        try:
            found = {stem: sorted(folder.glob(f"{stem}-*.flac")) for stem in self._resume()}
            clips = [clip for of_stem in found.values() for clip in of_stem]
            self._stems = [stem for stem, of_stem in found.items() if of_stem]
            if not self._stems or time.time() - clips[-1].stat().st_mtime > PAUSE_S:
                self._stems.append(self._new_stem())
            self.stem = self._stems[-1]
            self.resumed_s = sum(map(_duration_s, clips))
            self._n_frames = round(self.resumed_s * take.rate_hz)
            self._wanted_frames = round(wanted_s * take.rate_hz)
            self._number = max((int(clip.stem.rpartition("-")[2]) for clip in found.get(self.stem, ())), default=0)
            check_disk(folder, round(max(0.0, wanted_s - self.resumed_s) * take.bytes_per_s))
            self._write_note()
        except BaseException:
            if not self._note.stat().st_size:
                self._note.unlink()
            os.close(self._lock)
            raise
        self.n_clips = 0  # written by this command
        self._sound: soundfile.SoundFile | None = None
        self._in_clip = 0

    @property
    def done_s(self) -> float:
        """Seconds of sound in the session."""
        return self._n_frames / self._take.rate_hz

    @property
    def complete(self) -> bool:
        """Whether all that is wanted is there."""
        return self._n_frames >= self._wanted_frames

    def write(self, frames: NDArray[np.int32]) -> None:
        """Append frames (n, n_channels), int32 with full scale 2^31, that follow the ones before; no more than is wanted."""
        while len(frames) and not self.complete:
            if self._sound is None:
                self._begin()
            assert self._sound is not None
            part = frames[: min(self._clip_frames - self._in_clip, self._wanted_frames - self._n_frames)]
            self._sound.write(part)
            self._in_clip += len(part)
            self._n_frames += len(part)
            frames = frames[len(part) :]
            if self._in_clip == self._clip_frames or self.complete:
                self.break_off()

    def break_off(self) -> None:
        """End the clip: what comes next does not follow it."""
        if self._sound is None:
            return
        self._sound.close()
        self._sound = None
        if self._in_clip < self._shortest_frames:
            self._part.unlink()
            self._n_frames -= self._in_clip
            return
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._number += 1
        self.n_clips += 1
        self._part.rename(self.folder / f"{self.stem}-{self._number:04d}.flac")

    def close(self) -> None:
        """End the clip, and the session if it is complete."""
        try:
            self.break_off()
            if self.complete or not self._n_frames:
                self._note.unlink()
        finally:
            os.close(self._lock)

    @property
    def _part(self) -> Path:
        return self.folder / f".{self.stem}.part"

    def _begin(self) -> None:
        take = self._take
        check_disk(self.folder, round(self._clip_frames / take.rate_hz * take.bytes_per_s))
        subtype = _SUBTYPES[take.sample_format]
        self._sound = soundfile.SoundFile(self._part, "w", take.rate_hz, take.n_channels, subtype, format="FLAC")
        self._sound.software = "stethos"
        self._sound.date = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
        self._sound.comment = json.dumps(dict(take.about))
        self._in_clip = 0
        self._wanted_frames = max(self._wanted_frames, self._n_frames + self._shortest_frames)

    def _resume(self) -> list[str]:
        """The names that an interrupted session has, if it recorded the same; half a clip that a power cut left is removed."""
        for part in self.folder.glob(f".{self._take.name}_{_STAMP}.part"):
            part.unlink()
        try:
            note = json.loads(self._note.read_text() or "{}")
        except ValueError:
            return []
        stems = note.get("sessions")
        wanted = isinstance(stems, list) and all(isinstance(stem, str) for stem in stems)
        return list(stems) if wanted and note.get("take") == self._identity else []

    def _new_stem(self) -> str:
        began = datetime.now(timezone.utc)
        while any(self.folder.glob(f"{(stem := f'{self._take.name}_{began:%Y%m%dT%H%M%SZ}')}-*")):
            began += timedelta(seconds=1)  # another session began in this second
        return stem

    def _write_note(self) -> None:
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps({"sessions": self._stems, "take": self._identity}).encode(), 0)
        os.fsync(self._lock)

    @property
    def _identity(self) -> list[object]:
        take = self._take
        return [take.name, take.rate_hz, take.n_channels, take.sample_format, dict(take.about)]


def check_disk(folder: Path, n_bytes: int) -> None:
    """SinkError where so much does not fit on the folder's disk with some to spare."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes + SPARE_BYTES:
        raise SinkError(
            f"{folder}: needs {n_bytes} bytes ({n_bytes / 1e6:.0f} MB) and {SPARE_BYTES / 1e6:.0f} MB to spare, "
            f"got {free} bytes ({free / 1e6:.0f} MB) free"
        )


def _duration_s(clip: Path) -> float:
    try:
        return float(soundfile.info(clip).duration)
    except soundfile.LibsndfileError as error:
        raise SinkError(f"{clip}: is damaged ({error.error_string}); remove it to go on") from error


def _lock(path: Path) -> int:
    try:
        return lock(path)
    except BlockingIOError as error:
        raise SinkError(f"{path.parent}: another monitor record writes to this session") from error
