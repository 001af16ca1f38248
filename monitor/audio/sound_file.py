"""Open a sound file with libsndfile, with the right length if its header states a wrong one."""

import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import soundfile

from monitor.arrays import F32
from monitor.audio.layout import Layout
from monitor.errors import SourceError

_FLAC_LENGTH_AT = 21  # the low half of this byte and the next four
_FOREIGN_NAME = re.compile(r"\.(3gp|aac|ac3|amr|ape|avi|flv|m4[abv]|mk[av]|mov|mp4|mpc|qt|tta|weba|webm|wm[av]|wv)$", re.I)
_FOREIGN_CONTENT = re.compile(  # MP4, ASF, Matroska, AMR, ADTS, Monkey's Audio, WavPack
    rb"....ftyp|\x30\x26\xb2\x75|\x1a\x45\xdf\xa3|#!AMR|\xff[\xf0\xf1\xf8\xf9]|MAC |wvpk", re.S
)

_CUT_OFF = re.compile(r"truncated|should be|lacks an end-of-stream|Junk after the last page")


class SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read from front to back. libsndfile's errors are SourceErrors, which do not name the file."""

    def seekable(self) -> bool:
        """False: soundfile would seek after each read, which fails near the end of a FLAC file that states no length."""
        return False

    @property
    def is_mpeg(self) -> bool:
        """Whether libmpg123 decodes it."""
        return str(self.format) == "MP3" or str(self.subtype).startswith("MPEG")

    @property
    def remark(self) -> str | None:
        """A line in which libsndfile states that the end of the file is missing; None if it does not."""
        return next((line.strip() for line in str(self.extra_info).splitlines() if _CUT_OFF.search(line)), None)

    def skip(self, n: int) -> None:
        """Begin at sample `n`."""
        with _quiet(self.is_mpeg), _errors():
            self.seek(n)

    def read_into(self, buffer: F32) -> F32:
        """Read the next samples (n, n_channels); return the part of `buffer` that they fill."""
        try:
            with _quiet(self.is_mpeg), _errors():
                return self.read(len(buffer), out=buffer)  # type: ignore[no-any-return]
        finally:
            if isinstance(self.name, _View) and self.name.failure is not None:
                raise self.name.failure


@contextmanager
def open_sound(path: Path, layout: Layout | None, *, whole: bool) -> Iterator[SoundFile]:
    """Open a file with this layout. `whole`: read to the end, whatever length a FLAC file states; it cannot be searched then."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        head = file.read(_FLAC_LENGTH_AT + 5)
        source: Any = path.absolute()  # libsndfile takes `-` for the standard input
        source = source if os.name == "nt" else os.fsencode(source)  # soundfile encodes text strictly; names need not be text
        if layout is not None and layout.is_corrected:
            source = _View(file, 0, layout.start + layout.n_bytes, layout.length.at, layout.length.encode(layout.n_bytes))
        elif whole and head.startswith(b"fLaC") and len(head) == _FLAC_LENGTH_AT + 5:
            unknown = bytes([head[_FLAC_LENGTH_AT] & 0xF0]) + bytes(4)
            source = _View(file, 0, path.stat().st_size, _FLAC_LENGTH_AT, unknown)
        sound = stack.enter_context(_opened(source, path, head, is_chunked=layout is not None))
        if layout is not None and layout.n_bytes > layout.length.max_bytes:
            sound = stack.enter_context(_open_raw(sound, _View(file, layout.start, layout.start + layout.n_bytes, 0, b"")))
        yield sound


def _opened(source: Any, path: Path, head: bytes, *, is_chunked: bool) -> SoundFile:
    known = is_chunked or head.startswith((b"fLaC", b"OggS"))
    try:
        with _quiet(not known), _errors():
            return SoundFile(source)
    except SourceError as error:
        if isinstance(source, _View) and source.failure is not None:
            raise source.failure from error
        hint = ""
        if (
            "unsupported encoding" in str(error)
            or "unimplemented format" in str(error)
            or _FOREIGN_NAME.search(path.name)
            or _FOREIGN_CONTENT.match(head)
        ):
            to = path.with_name(f"{path.stem}-converted" if path.suffix == ".flac" else path.stem).with_suffix(".flac")
            hint = f"; convert it: ffmpeg -i {shlex.quote(str(path))} {shlex.quote(str(to))}"
        raise SourceError(f"is not a supported audio file: {error}{hint}") from error


def _open_raw(sound: SoundFile, data: "_View") -> SoundFile:
    """More sound than the header can state, read as plain samples."""
    endian = sound.endian
    if endian == "FILE":
        endian = "BIG" if sound.format in ("AIFF", "AU", "CAF") else "LITTLE"
    with _errors():
        return SoundFile(
            data, samplerate=sound.samplerate, channels=sound.channels, subtype=sound.subtype, endian=endian, format="RAW"
        )


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except soundfile.LibsndfileError as error:
        text = error.error_string.removeprefix("Error : ").rstrip(".")
        raise SourceError("the file is damaged or too short" if "possibly a pipe" in text else text) from error
    except (TypeError, ValueError) as error:  # raised for headerless files
        raise SourceError(str(error)) from error


class _View(io.RawIOBase):
    """The bytes from `start` to `stop` of a file, in which `patch` replaces those at `patch_at`.

    libsndfile calls it, through which no error passes: `failure` keeps it, and the file seems to end there.
    """

    def __init__(self, file: BinaryIO, start: int, stop: int, patch_at: int, patch: bytes) -> None:
        self._file, self._start, self._size = file, start, stop - start
        self._patch_at, self._patch = patch_at, patch
        self._at = 0
        self.failure: BaseException | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See io.IOBase."""
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        """See io.IOBase."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """See io.RawIOBase."""
        wanted = max(0, min(len(buffer), self._size - self._at))
        try:
            self._file.seek(self._start + self._at)
            data = bytearray(self._file.read(wanted))
        except BaseException as error:  # noqa: BLE001 (also an interrupt; `read_into` raises it)
            self.failure = error
            return 0
        for at, byte in enumerate(self._patch, self._patch_at - self._at):
            if 0 <= at < len(data):
                data[at] = byte
        buffer[: len(data)] = bytes(data)
        self._at += len(data)
        return len(data)


@contextmanager
def _quiet(needed: bool) -> Iterator[None]:
    """Discard the messages that libmpg123 prints on stderr. Log lines of other threads wait, so that none is lost."""
    if not needed or sys.__stderr__ is None:
        yield
        return
    with ExitStack() as stack:
        for handler in logging.getLogger().handlers:
            handler.acquire()
            stack.callback(handler.release)
        sys.stderr.flush()
        stderr = os.dup(2)
        stack.callback(os.close, stderr)
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        os.dup2(null, 2)
        stack.callback(os.dup2, stderr, 2)
        yield
