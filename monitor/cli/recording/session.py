"""A recording session on disk: numbered FLAC clips of unbroken sound. Clips are always complete; sessions can be resumed.

The clips are `OUT/normal/fan_20261121T100000Z-0001.flac`, `…-0002.flac` and so on. `train` treats the clips of one session as
parts of one recording. Clips recorded half an hour or more after the last one get a new name; before, they continue its numbers,
also if that session was complete. A hidden file in the same folder stores the state of the session until it is complete. The file
is locked while a process is recording.
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

PAUSE_S = 1_800.0  # a longer pause starts a new recording, as in `train`
MIN_CLIP_S = 2.0  # shorter clips are deleted
SPARE_BYTES = 100_000_000  # always left free on the disk
MAX_CHANNELS = 8  # FLAC's maximum
_STAMP = f"{'[0-9]' * 8}T{'[0-9]' * 6}Z"
_SUBTYPES = {"int16": "PCM_16", "int24": "PCM_24", "int32": "PCM_24", "float32": "PCM_24"}


@dataclass(frozen=True, kw_only=True)
class Take:
    """The parameters of a recording. An interrupted session is resumed if its parameters are the same."""

    name: str
    rate_hz: int
    n_channels: int
    sample_format: str  # a key of ring.SAMPLE_BYTES
    comment: Mapping[str, str]  # stored in every clip

    def __post_init__(self) -> None:
        if self.n_channels > MAX_CHANNELS:
            raise SinkError(f"FLAC holds at most {MAX_CHANNELS} channels, got {self.n_channels}: choose one (--channel N)")

    @property
    def bytes_per_s(self) -> int:
        """An upper limit, without compression."""
        return self.rate_hz * self.n_channels * (2 if self.sample_format == "int16" else 3)


class RecordingSession:
    """Writes clips of at most `clip_s` seconds to an existing `folder` until they add up to `wanted_s` seconds."""

    def __init__(self, folder: Path, take: Take, *, clip_s: float, wanted_s: float) -> None:
        self.folder = folder
        self._take = take
        self._clip_frames = round(clip_s * take.rate_hz)
        self._min_frames = round(MIN_CLIP_S * take.rate_hz)
        self._state = folder / f".{take.name}.session"
        self._lock = _lock(self._state)
        try:
            stems, self._joined = self._resume()
            clips_of = {stem: sorted(folder.glob(f"{stem}-*.flac")) for stem in stems}
            clips = [clip for group in clips_of.values() for clip in group if clip.stem > self._joined]
            self._stems = [stem for stem, group in clips_of.items() if group]
            if not self._stems and (last := self._last_clip()) is not None:
                self._joined, self._stems = last.stem, [last.stem.rpartition("-")[0]]
                clips_of = {self._stems[0]: sorted(folder.glob(f"{self._stems[0]}-*.flac"))}
            elif not self._stems or (clips and time.time() - clips[-1].stat().st_mtime > PAUSE_S):
                self._stems.append(self._new_stem())
            self.stem = self._stems[-1]
            self.resumed_s = sum(map(_duration_s, clips))
            self.earlier_s = sum(map(_duration_s, folder.glob(f"{take.name}_{_STAMP}-*.flac"))) - self.resumed_s
            self._n_frames = round(self.resumed_s * take.rate_hz)
            self._wanted_frames = round(wanted_s * take.rate_hz)
            self._number = max((int(clip.stem.rpartition("-")[2]) for clip in clips_of.get(self.stem, ())), default=0)
            check_disk(folder, round(max(0.0, wanted_s - self.resumed_s) * take.bytes_per_s))
            self._write_state()
        except BaseException:
            if not self._state.stat().st_size:
                self._state.unlink()
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
        """Whether the wanted duration has been reached."""
        return self._n_frames >= self._wanted_frames

    def write(self, frames: NDArray[np.int32]) -> None:
        """Append the next frames (n, n_channels), int32 with full scale 2^31. Surplus frames are ignored."""
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
                self.end_clip()

    def end_clip(self) -> None:
        """Finish the current clip. The next sound starts a new one."""
        if self._sound is None:
            return
        self._sound.close()
        self._sound = None
        if self._in_clip < self._min_frames:
            self._part.unlink()
            self._n_frames -= self._in_clip
            return
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._number += 1
        self.n_clips += 1
        self._part.rename(self.folder / f"{self.stem}-{self._number:04d}.flac")

    def close(self) -> None:
        """Finish the current clip, and the session if it is complete."""
        try:
            self.end_clip()
            if self.complete or not self._n_frames:
                self._state.unlink()
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
        self._sound.comment = _comment(take)
        self._in_clip = 0
        self._wanted_frames = max(self._wanted_frames, self._n_frames + self._min_frames)

    def _resume(self) -> tuple[list[str], str]:
        """The name stems of an interrupted session with the same take, and the clip of a complete one that it continues.

        Partial clips left by a power cut are removed.
        """
        for part in self.folder.glob(f".{self._take.name}_{_STAMP}.part"):
            part.unlink()
        try:
            state = json.loads(self._state.read_text() or "{}")
        except ValueError:
            return [], ""
        stems = state.get("sessions")
        is_valid = isinstance(stems, list) and all(isinstance(stem, str) for stem in stems)
        return (list(stems), str(state.get("joined", ""))) if is_valid and state.get("take") == self._identity else ([], "")

    def _last_clip(self) -> Path | None:
        """The last clip of a complete session with the same take, if it is recent enough to be continued."""
        clips = sorted(self.folder.glob(f"{self._take.name}_{_STAMP}-*.flac"))
        if not clips or time.time() - clips[-1].stat().st_mtime > PAUSE_S:
            return None
        with soundfile.SoundFile(clips[-1]) as sound:
            found = (sound.samplerate, sound.channels, sound.subtype, sound.comment)
        take = self._take
        return clips[-1] if found == (take.rate_hz, take.n_channels, _SUBTYPES[take.sample_format], _comment(take)) else None

    def _new_stem(self) -> str:
        began = datetime.now(timezone.utc)
        while any(self.folder.glob(f"{(stem := f'{self._take.name}_{began:%Y%m%dT%H%M%SZ}')}-*")):
            began += timedelta(seconds=1)  # another session started in the same second
        return stem

    def _write_state(self) -> None:
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps({"sessions": self._stems, "joined": self._joined, "take": self._identity}).encode(), 0)
        os.fsync(self._lock)

    @property
    def _identity(self) -> list[object]:
        take = self._take
        return [take.name, take.rate_hz, take.n_channels, take.sample_format, dict(take.comment)]


def check_disk(folder: Path, n_bytes: int) -> None:
    """Raise SinkError unless `n_bytes` and a reserve fit on the folder's disk."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes + SPARE_BYTES:
        raise SinkError(
            f"{folder}: needs {n_bytes} bytes ({n_bytes / 1e6:.0f} MB) and {SPARE_BYTES / 1e6:.0f} MB to spare, "
            f"got {free} bytes ({free / 1e6:.0f} MB) free"
        )


def _comment(take: Take) -> str:
    return json.dumps(dict(take.comment))


def _duration_s(clip: Path) -> float:
    try:
        return float(soundfile.info(clip).duration)
    except soundfile.LibsndfileError as error:
        raise SinkError(f"{clip}: is damaged ({error.error_string}); remove it to resume") from error


def _lock(path: Path) -> int:
    try:
        return lock(path)
    except BlockingIOError as error:
        raise SinkError(f"{path.parent}: another monitor record is already writing to this session") from error
