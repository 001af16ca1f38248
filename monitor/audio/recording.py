"""Recordings as audio sources: any file that libsndfile reads, in the same blocks as from a microphone."""

import errno
import hashlib
import math
import os
import re
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from monitor.arrays import F32
from monitor.audio.resample import Resampler
from monitor.block import Block
from monitor.errors import SourceError

MAX_RATE_HZ, MAX_CHANNELS = 1_000_000, 256
MAX_AMPLITUDE = 1e4  # full scale is 1; float files may exceed it, but not by 80 dB
START_UP_S, START_UP_STEP_S = 0.25, 0.01  # maximum length of a recorder's start-up, and the step of its measurement
START_UP_POWER = 1e-3  # relative to the power of the first second (-30 dB)
_SLACK_BYTES = 16  # some writers miscount their padding
_NO_LENGTH_BYTES = 0x7FFFFF00  # a stated length of this much or more means unknown
_UNKNOWN_LENGTH = 1 << 60  # libsndfile's value for streams of unknown length


class Recording:
    """A sound file as mono at `sample_rate_hz`, read in constant memory.

    `channel` is counted from 1; None takes the mean of all channels.
    """

    def __init__(self, path: Path | str, *, sample_rate_hz: int, channel: int | None = None) -> None:
        self.path = path = Path(path)
        self.sample_rate_hz = sample_rate_hz
        self.channel = channel
        try:
            _check_file(path)
            with soundfile.SoundFile(_name(path)) as sound:
                self.rate_hz = int(sound.samplerate)
                self.n_channels = int(sound.channels)
                self.n_samples = int(sound.frames) if sound.frames < _UNKNOWN_LENGTH else None
                self._exact_length = sound.format != "MP3"  # an MP3 file's length is often an estimate
                self._cut = _is_cut_off(sound.extra_info)
        except OSError as error:
            raise _unreadable(path, error) from error
        except soundfile.LibsndfileError as error:
            raise SourceError(f"{path}: is not a supported audio file: {error.error_string}") from error
        except TypeError as error:  # raised for headerless files
            raise SourceError(f"{path}: is not a supported audio file: {error}") from error
        if self.rate_hz > MAX_RATE_HZ or self.n_channels > MAX_CHANNELS:
            raise SourceError(
                f"{path}: must have at most {MAX_CHANNELS} channels at {MAX_RATE_HZ} Hz, got {self.n_channels} at {self.rate_hz}"
            )
        if self.n_samples == 0:
            raise SourceError(f"{path}: holds no samples")
        if channel is not None and not 1 <= channel <= self.n_channels:
            raise SourceError(f"{path}: channel must be in 1..{self.n_channels}, got {channel}")

    @property
    def duration_s(self) -> float | None:
        """The duration; None if the file does not state it."""
        return None if self.n_samples is None else self.n_samples / self.rate_hz

    def sha256(self) -> str:
        """SHA-256 of the file's bytes."""
        return file_sha256(self.path)

    def blocks(self, *, block_s: float = 2.0, start_s: float = 0.0, stop_s: float = math.inf) -> Iterator[Block]:
        """Yield the sound from `start_s` to `stop_s`, as a stream whose sample 0 is at `start_s`.

        The quiet start-up of many recorders is skipped, and the stream begins that much later. If the file is truncated or
        contains NaN, SourceError is raised after the sound before that point.
        """
        first = 0 if start_s else round(self._start_up_s() * self.sample_rate_hz)
        start = 0
        for samples in self._resampled(max(1, round(block_s * self.rate_hz)), start_s, stop_s):
            rest = samples[max(0, first - start) :]
            if len(rest):
                yield Block(max(first, start), rest)
            start += len(samples)

    def _resampled(self, n: int, start_s: float, stop_s: float) -> Iterator[F32]:
        """Yield mono samples at `sample_rate_hz`, reading `n` samples of the file at a time."""
        resampler = Resampler(from_hz=self.rate_hz, to_hz=self.sample_rate_hz)
        for samples in self._chunks(n, start_s, stop_s):
            yield resampler.push(samples)
        if self.rate_hz != self.sample_rate_hz:
            yield resampler.push(np.empty(0, np.float32), last=True)

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
        done = round(start_s * self.rate_hz)
        stop = None if stop_s == math.inf else round(stop_s * self.rate_hz)
        buffer = np.empty((n, self.n_channels), np.float32)
        with soundfile.SoundFile(_name(self.path)) as sound:
            if done:
                sound.seek(done)
            while stop is None or done < stop:
                try:
                    chunk = sound.read(n, dtype="float32", always_2d=True, out=buffer)
                except soundfile.LibsndfileError as error:
                    raise self._truncated(done, error.error_string) from error
                if not len(chunk):
                    break
                if stop is not None:
                    chunk = chunk[: stop - done]
                mono = self._mono(chunk)
                usable = np.abs(mono) <= MAX_AMPLITUDE  # false for NaN
                if not usable.all():
                    bad = int(np.argmin(usable))
                    if bad:
                        yield mono[:bad]
                    where = f"sample {done + bad} ({(done + bad) / self.rate_hz:.3f} s)"
                    raise SourceError(f"{self.path}: {where} must be finite and at most {MAX_AMPLITUDE:g}, got {mono[bad]:g}")
                done += len(chunk)
                yield mono
        short = self.n_samples is not None and done < self.n_samples and self._exact_length
        if stop is None and (self._cut or short):
            raise self._truncated(done, "its header states more")

    def _mono(self, chunk: F32) -> F32:
        if self.channel is None and chunk.shape[1] > 1:
            return np.asarray(chunk.mean(axis=1), np.float32)
        return np.array(chunk[:, (self.channel or 1) - 1])

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


def _name(path: Path) -> Path | bytes:
    """The file name for soundfile, which encodes text strictly. File names need not be valid text."""
    return path if os.name == "nt" else os.fsencode(path)


def _check_file(path: Path) -> None:
    """Check that the file can be opened (libsndfile gives no reason), and more than once, which rules out pipes."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path}: must be a regular file, got a pipe or device")
    if status.st_size == 0:
        raise SourceError(f"{path}: is empty (0 bytes)")
    path.open("rb").close()


def _is_cut_off(header_log: str) -> bool:
    """Whether the header states more bytes than the file has. libsndfile logs both numbers when it opens a file.

    A recorder that writes to a pipe states 0 or the largest number instead of the length.
    """
    found = re.findall(r": (\d+) \(should be (\d+)\)", header_log)
    return any(int(actual) + _SLACK_BYTES < int(stated) < _NO_LENGTH_BYTES for stated, actual in found)
