"""Recordings as audio sources: any file that libsndfile reads, in the same blocks as from a microphone."""

import errno
import hashlib
import logging
import math
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path

import numpy as np

from monitor.arrays import F32
from monitor.audio.channels import ChannelCheck
from monitor.audio.layout import Layout, find_sound
from monitor.audio.repetition import Part, RepetitionDetector, regrouped
from monitor.audio.resample import Resampler
from monitor.audio.sound_file import SoundFile, open_sound
from monitor.block import Block
from monitor.errors import SourceError

log = logging.getLogger(__name__)
MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 1_000, 1_000_000, 256
MAX_AMPLITUDE = 1e4  # full scale is 1; float files may exceed it, but not by 80 dB
MIN_DECODED = 0.9  # of the estimated length of an MP3 file
START_UP_S, START_UP_STEP_S = 0.25, 0.01  # maximum length of a recorder's start-up, and the step of its measurement
START_UP_POWER = 1e-3  # relative to the power of the first second (-30 dB)
_UNKNOWN_LENGTH = 1 << 60  # libsndfile's value for streams of unknown length
_NO_SAMPLES = "holds no samples"


class Recording:
    """A sound file as mono at `sample_rate_hz`, read in constant memory.

    `channel` is counted from 1; None takes the mean of all channels. A warning is logged if the header states a wrong length but
    all sound can be read.
    """

    def __init__(self, path: Path | str, *, sample_rate_hz: int, channel: int | None = None) -> None:
        self.path = path = Path(path)
        self.sample_rate_hz = sample_rate_hz
        self.channel = channel
        try:
            self._layout = _layout(path)
            with self._open(whole=False) as sound:
                self.rate_hz = int(sound.samplerate)
                self.n_channels = int(sound.channels)
                self.n_samples = int(sound.frames) if sound.frames < _UNKNOWN_LENGTH else None
                self._exact_length = not sound.is_mpeg  # its length is often an estimate
                remark = sound.remark if self._layout is None else None
                self._check(sound)
        except OSError as error:
            raise _unreadable(path, error) from error
        except SourceError as error:
            raise SourceError(f"{path}: {error}") from error
        self._channels = ChannelCheck(self.n_channels)
        if self._layout is not None and self._layout.disagreement is not None:
            _warn_once(f"{path}: {self._layout.disagreement}")
        if remark is not None:
            _warn_once(f"{path}: its end seems to be missing ({remark}); reading what there is")

    def _check(self, sound: SoundFile) -> None:
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise SourceError(f"the sample rate must be in {MIN_RATE_HZ}..{MAX_RATE_HZ} Hz, got {self.rate_hz}")
        if self.n_channels > MAX_CHANNELS:
            raise SourceError(f"must have at most {MAX_CHANNELS} channels, got {self.n_channels}")
        buffer = np.empty((1, self.n_channels), np.float32)
        if not (len(sound.read_into(buffer)) if self.n_samples is None else self.n_samples):
            raise SourceError(_NO_SAMPLES)
        if self.channel is not None and not 1 <= self.channel <= self.n_channels:
            raise SourceError(f"channel must be in 1..{self.n_channels}, got {self.channel}")

    @property
    def duration_s(self) -> float | None:
        """The duration; None if the file does not state it."""
        return None if self.n_samples is None else self.n_samples / self.rate_hz

    @property
    def channel_problem(self) -> str | None:
        """The dead or inverted channels in the sound read so far, in one line. None if there are none, or one channel is used."""
        return self._channels.problem() if self.channel is None else None

    def sha256(self) -> str:
        """SHA-256 of the file's bytes."""
        return file_sha256(self.path)

    def blocks(self, *, block_s: float = 2.0, start_s: float = 0.0, stop_s: float = math.inf) -> Iterator[Block]:
        """Yield the sound from `start_s` to `stop_s`, as a stream whose sample 0 is at `start_s`.

        The quiet start-up of many recorders is skipped, and the stream begins that much later. If the file is truncated or
        contains NaN, SourceError is raised after the sound before that point.
        """
        first = 0 if start_s else round(self._start_up_s() * self.sample_rate_hz)
        for block in self._blocks(max(1, round(block_s * self.rate_hz)), start_s, stop_s):
            skipped = max(0, first - block.start)
            if skipped < len(block.samples):
                yield Block(block.start + skipped, block.samples[skipped:], block.repeating)

    def _blocks(self, n: int, start_s: float, stop_s: float) -> Iterator[Block]:
        """Yield blocks at `sample_rate_hz`, each of `n` samples of the file."""
        self._channels = ChannelCheck(self.n_channels)
        resampler = Resampler(from_hz=self.rate_hz, to_hz=self.sample_rate_hz)
        failures: list[SourceError] = []
        for part in regrouped(self._parts(n, start_s, stop_s, failures), n):
            yield from resampler.push(part.samples, repeating=part.repeating)
        if failures:
            raise failures[0]
        yield from resampler.flush()

    def _parts(self, n: int, start_s: float, stop_s: float, failures: list[SourceError]) -> Iterator[Part]:
        """Yield the sound at the file's own rate. An error is appended to `failures`, after the sound before it."""
        repetition = RepetitionDetector(rate_hz=self.rate_hz, looks_ahead=True)
        try:
            for samples in self._chunks(n, start_s, stop_s):
                yield from repetition.push(samples)
        except SourceError as error:
            failures.append(error)
        yield from repetition.flush()

    def _start_up_s(self) -> float:
        """Duration of the recorder's start-up: the part at the beginning that is far quieter than the first second."""
        step = max(1, round(START_UP_STEP_S * self.rate_hz))
        first = next(self._chunks(self.rate_hz, 0.0, 1.0), np.empty(0, np.float32))
        n_steps = min(round(START_UP_S / START_UP_STEP_S), len(first) // step)
        power = np.mean(np.square(first[: n_steps * step]).reshape(n_steps, step), axis=1)
        loud = power >= START_UP_POWER * np.mean(np.square(first)) if n_steps else np.ones(1, bool)
        return START_UP_STEP_S * int(np.argmax(loud)) if loud.any() else 0.0

    def _chunks(self, n: int, start_s: float, stop_s: float) -> Iterator[F32]:
        """Yield mono samples at the file's own rate."""
        start = done = round(start_s * self.rate_hz)
        stop = None if stop_s == math.inf else round(stop_s * self.rate_hz)
        buffer = np.empty((n, self.n_channels), np.float32)
        with self._open(whole=not start) as sound:
            while stop is None or done < stop:
                try:
                    if start and done == start:
                        sound.skip(start)
                    chunk = sound.read_into(buffer)
                except SourceError as error:
                    raise self._truncated(done, str(error)) from error
                if not len(chunk):
                    break
                chunk = chunk if stop is None else chunk[: stop - done]
                mono = self._mono(chunk)
                usable = np.abs(mono) <= MAX_AMPLITUDE  # false for NaN
                if not usable.all():
                    bad = int(np.argmin(usable))
                    if bad:
                        yield mono[:bad]
                    where = f"sample {done + bad} ({(done + bad) / self.rate_hz:.3f} s)"
                    raise SourceError(f"{self.path}: {where} must be finite and at most {MAX_AMPLITUDE:g}, got {mono[bad]:g}")
                if self.channel is None and self.n_channels > 1:
                    self._channels.push(chunk)
                done += len(chunk)
                yield mono
        if not done:
            raise SourceError(f"{self.path}: {_NO_SAMPLES}")
        if stop is None:
            self._check_length(done)

    def _check_length(self, n_samples: int) -> None:
        """Compare the samples read with those stated."""
        layout = self._layout
        if layout is not None and layout.missing:
            raise self._truncated(n_samples, f"its header states {layout.missing} bytes more")
        if layout is not None and layout.unread:
            raise SourceError(
                f"{self.path}: its header states {layout.stated} bytes, but {layout.unread} bytes of other sound follow"
            )
        if self.n_samples is None or n_samples == self.n_samples:
            return
        if not self._exact_length:
            if n_samples < MIN_DECODED * self.n_samples:
                log.warning("%s: %d of about %d samples could be decoded", self.path, n_samples, self.n_samples)
            return
        if n_samples < self.n_samples:
            raise self._truncated(n_samples, f"its header states {self.n_samples - n_samples} samples more")
        more = n_samples - self.n_samples
        log.warning(
            "%s: the header states %d samples, %d fewer than the file holds; all were read", self.path, self.n_samples, more
        )

    def _mono(self, chunk: F32) -> F32:
        if self.channel is None and chunk.shape[1] > 1:
            with np.errstate(all="ignore"):  # the caller rejects what is not finite
                return np.asarray(chunk.mean(axis=1), np.float32)
        return np.array(chunk[:, (self.channel or 1) - 1])

    def _open(self, *, whole: bool) -> AbstractContextManager[SoundFile]:
        return open_sound(self.path, self._layout, whole=whole)

    def _truncated(self, done: int, reason: str) -> SourceError:
        return SourceError(f"{self.path}: is truncated after {done / self.rate_hz:.3f} s ({done} samples): {reason}")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes; SourceError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for chunk in iter(partial(file.read, 1 << 20), b""):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{path}: cannot be read: {error.strerror or error}")


def _layout(path: Path) -> Layout | None:
    """Find the sound in a file, and check that it can be opened: libsndfile gives no reason. Pipes cannot be opened twice."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise SourceError("must be a regular file, got a pipe or device")
    if status.st_size == 0:
        raise SourceError("is empty (0 bytes)")
    with path.open("rb") as file:
        return find_sound(file, status.st_size)


@cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)
