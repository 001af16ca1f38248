"""Where the sound lies in a WAV, RF64, W64, AIFF, AU or CAF file, and how much of it there is.

The lengths in a header are wrong if the recorder wrote to a pipe, was killed, or wrote more than the field can hold.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

SLACK_BYTES = 16  # some writers miscount their padding
_SMALL_BYTES, _SMALL_PART = 4096, 50  # some writers count the header as sound. If sound is missing instead, it is less than 2 %
_UNKNOWN_BYTES = (0x7F00_0000, 0x8000_0000, 1 << 32)  # SoX, arecord and ffmpeg state about this much if they write to a pipe
_UNKNOWN_WITHIN = 1 << 16
_MAX_CHUNKS = 1000
_W64 = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # the end of nearly every chunk's name
_TAGS = (b"LIST", b"ID3", b"id3", b"TAG", b"APET")  # recognised behind the sound even if they are damaged
_FURTHER_SOUND = (b"data", b"SSND", b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b"riff")


class _Family(NamedTuple):
    """A container made of chunks."""

    first: int  # offset of the first chunk
    head: struct.Struct  # name and size of a chunk
    n_counted: int  # bytes of that head that the size includes
    align: int
    sound: bytes  # name of the chunk with the sound
    n_before: int  # bytes before the sound in its chunk


_FAMILIES = {
    b"RIFF": _Family(12, struct.Struct("<4sI"), 0, 2, b"data", 0),
    b"RF64": _Family(12, struct.Struct("<4sI"), 0, 2, b"data", 0),
    b"RIFX": _Family(12, struct.Struct(">4sI"), 0, 2, b"data", 0),
    b"FORM": _Family(12, struct.Struct(">4sI"), 0, 2, b"SSND", 8),
    b"riff": _Family(40, struct.Struct("<16sQ"), 24, 8, b"data" + _W64, 0),
    b"caff": _Family(8, struct.Struct(">4sq"), 0, 1, b"data", 4),
}


@dataclass(frozen=True)
class _Length:
    """A length in a header: where it is, how it is encoded, and by how much it exceeds the number of bytes of sound."""

    at: int
    code: str
    surplus: int = 0

    @property
    def max_bytes(self) -> int:
        """The most sound that it can state."""
        return (1 << 8 * struct.calcsize(self.code) - self.code.endswith("q")) - 1 - self.surplus

    def encode(self, n_bytes: int) -> bytes:
        """The field for so many bytes of sound."""
        return struct.pack(self.code, min(n_bytes, self.max_bytes) + self.surplus)


@dataclass(frozen=True)
class Layout:
    """The place of the sound in a file of `size` bytes."""

    size: int
    start: int
    n_bytes: int  # of sound that can be read
    stated: int | None  # according to the header; None if it states no length
    length: _Length
    form_end: int | None = None  # where the file ends according to its outermost chunk
    unread: int = 0  # bytes of further sound behind other data

    @property
    def missing(self) -> int:
        """Bytes of sound that the header states and the file lacks."""
        lacks = 0 if self.stated is None else self.stated - self.n_bytes
        small = max(self.start, min(_SMALL_BYTES, self.n_bytes // _SMALL_PART))
        is_whole = self.form_end is not None and abs(self.form_end - self.size) <= SLACK_BYTES
        is_unknown = any(abs(lacks + self.n_bytes - unknown) <= _UNKNOWN_WITHIN for unknown in _UNKNOWN_BYTES)
        return 0 if is_whole or is_unknown or lacks <= small else lacks

    @property
    def is_corrected(self) -> bool:
        """Whether libsndfile must be given another length, or must not see the data behind the sound."""
        return self.n_bytes != self.stated or self.unread > 0

    @property
    def disagreement(self) -> str | None:
        """How header and file disagree, although all sound is read. None if they agree."""
        if self.missing:
            return None
        if self.stated is not None and not 0 <= self.stated - self.n_bytes <= SLACK_BYTES:
            by = abs(self.stated - self.n_bytes)
            few = "fewer" if self.stated < self.n_bytes else "more"
            return f"the header states {self.stated} bytes of sound, {by} {few} than the file holds; reading all {self.n_bytes}"
        if self.stated is not None and self.form_end is not None and self.form_end - self.size > SLACK_BYTES:
            return f"the header states {self.form_end - self.size} bytes more than the file holds, but its sound is complete"
        return None


def find_sound(file: BinaryIO, size: int) -> Layout | None:
    """The layout of a file of `size` bytes; None if it is of another kind or has no chunk with sound."""
    head = _read(file, 0, 12)
    if head[:4] in (b".snd", b"dns.") and len(head) == 12:
        order = ">" if head[:4] == b".snd" else "<"
        start, stated = struct.unpack(f"{order}II", head[4:])
        unknown = stated == 0xFFFF_FFFF
        return Layout(size, start, size - start, None if unknown else stated, _Length(8, f"{order}I")) if start <= size else None
    family = _FAMILIES.get(head[:4])
    return None if family is None else _find_in_chunks(file, size, family, head)


def _find_in_chunks(file: BinaryIO, size: int, family: _Family, head: bytes) -> Layout | None:
    form_end = 8 + family.head.unpack(head[:8].ljust(8, b"\0"))[1] if family.first == 12 else None
    of_ds64: tuple[int, _Length] | None = None
    for at, name, n in _chunks(file, family.first, size, family):  # noqa: B007 (used below)
        if name == b"ds64":
            form_size, n_64 = struct.unpack("<QQ", _read(file, at, 16).ljust(16, b"\0"))
            form_end, of_ds64 = 8 + form_size, (n_64, _Length(at + 8, "<Q"))
        if name == family.sound:
            break
    else:
        return None
    n_before = family.n_before + (int.from_bytes(_read(file, at, 4), "big") if name == b"SSND" else 0)
    start = at + n_before
    if start > size:
        return None
    order, code = family.head.format[0], family.head.format[-1]
    length = _Length(at - struct.calcsize(code), order + code, n_before + family.n_counted)
    if of_ds64 is not None and n == 0xFFFF_FFFF:
        n, length = of_ds64
    stated = None if n == -1 or n >= 1 << 60 else max(0, n - n_before)  # CAF states -1 if it does not know
    available = size - start
    behind = size if stated is None else start + stated + -n % family.align
    if stated is None or stated >= available or _is_sound(file, behind, size, family):
        return Layout(size, start, available, stated, length, form_end)
    further = (at for at, name, _ in _chunks(file, behind, size, family) if name[:4] in _FURTHER_SOUND)
    unread = size + family.head.size - next(further, size + family.head.size)
    return Layout(size, start, stated, stated, length, form_end, unread)


def _is_sound(file: BinaryIO, at: int, size: int, family: _Family) -> bool:
    """Whether the bytes from `at` are sound, rather than chunks, tags or padding."""
    rest = size - at
    if rest <= SLACK_BYTES:
        return False
    if rest >= 1 << 32:  # the 32-bit length of the sound has overflowed
        return True
    content_at, name, n = next(_chunks(file, at, size, family), (at, b"", 0))
    if name.startswith((*_TAGS, *_FURTHER_SOUND)):
        return False
    is_name = name.endswith(_W64) if family.n_counted else name.isascii() and name.decode().isprintable()
    return not (is_name and 0 <= n <= size - content_at) and not _is_zero(file, at)


def _chunks(file: BinaryIO, at: int, size: int, family: _Family) -> Iterator[tuple[int, bytes, int]]:
    """The chunks from `at`: where the content of each begins, its name, and the content's size."""
    for _ in range(_MAX_CHUNKS):
        if at + family.head.size > size:
            return
        name, n = family.head.unpack(_read(file, at, family.head.size))
        n -= family.n_counted
        at += family.head.size
        yield at, name, n
        at += max(0, n + -n % family.align)


def _is_zero(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return all(not piece.strip(b"\0") for piece in iter(lambda: file.read(1 << 20), b""))


def _read(file: BinaryIO, at: int, n: int) -> bytes:
    file.seek(at)
    return file.read(n)
