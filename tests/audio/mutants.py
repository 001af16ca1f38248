"""Damaged recordings of every format that soundfile writes: cut, with flipped bytes, and with headers that lie."""

import io
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from monitor.audio.recording import Recording
from monitor.errors import SourceError
from tests.signals import hum

RATE_HZ = 16_000
FORMATS = {  # extension: format and encodings
    "wav": ("WAV", ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")),
    "wavex": ("WAVEX", ("PCM_16", "FLOAT")),
    "rf64": ("RF64", ("PCM_16", "FLOAT")),
    "w64": ("W64", ("PCM_16", "PCM_24")),
    "flac": ("FLAC", ("PCM_S8", "PCM_16", "PCM_24")),
    "ogg": ("OGG", ("VORBIS",)),
    "opus": ("OGG", ("OPUS",)),
    "mp3": ("MP3", ("MPEG_LAYER_III",)),
    "aiff": ("AIFF", ("PCM_16", "FLOAT", "ULAW")),
    "au": ("AU", ("PCM_16", "FLOAT", "G721_32")),
    "caf": ("CAF", ("PCM_16", "FLOAT", "ALAC_16")),
}
_LIES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7F00_0000, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)
_HEADER_BYTES = 200


def mutants(n: int, seed: int) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """`n` damaged recordings: name, and extension and content. They are the same for the same seed."""
    random = np.random.default_rng(seed)
    originals = recordings()
    for number in range(n):
        suffix, original = originals[number % len(originals)]
        kind, content = _mutate(original, random)
        yield f"{kind}.{suffix}", (suffix, content)


def read(mutant: tuple[str, bytes], folder: Path) -> str | None:
    """Read a recording as replay does: its error, or None."""
    suffix, content = mutant
    path = folder / f"mutant.{suffix}"
    path.write_bytes(content)
    try:
        recording = Recording(path, sample_rate_hz=RATE_HZ)
        for block in recording.blocks():
            assert np.isfinite(block.samples).all()
    except SourceError as error:
        assert str(error).startswith(str(folder))
        assert "does not exist" not in str(error)
        return str(error)
    problem = recording.channel_problem
    assert problem is None or problem.isprintable()
    return None


@cache
def recordings() -> list[tuple[str, bytes]]:
    """Sound recordings: extension and content, 1.5 s each, mono and stereo."""
    made = []
    for suffix, (container, encodings) in FORMATS.items():
        for encoding in encodings:
            for n_channels in (1,) if encoding in ("GSM610", "G721_32") else (1, 2):
                file = io.BytesIO()
                sound = np.stack([hum(seed, RATE_HZ * 3 // 2) for seed in range(n_channels)], axis=1)
                soundfile.write(file, sound, RATE_HZ, format=container, subtype=encoding)
                made.append((suffix, file.getvalue()))
    return made


def _mutate(original: bytes, random: np.random.Generator) -> tuple[str, bytes]:
    content = bytearray(original)
    kind = str(random.choice(("cut", "flips", "header", "lie", "long-lie", "zeros", "doubled", "inserted", "cut-lie")))
    if kind.startswith("cut"):
        del content[int(random.integers(len(content))) :]
    if kind in ("flips", "header"):
        end = len(content) if kind == "flips" else _HEADER_BYTES
        for at in random.integers(min(end, len(content)), size=int(random.integers(1, 20))):
            content[at] ^= 1 << int(random.integers(8))
    if kind.endswith("lie") and len(content) > 8:
        at = int(random.integers(min(_HEADER_BYTES, len(content)) - 7)) & ~int(random.integers(2))
        value = int(random.choice((*_LIES, len(content), len(content) // 2, len(content) * 2)))
        code = str(random.choice(("<I", ">I", "<H", ">H"))) if kind != "long-lie" else str(random.choice(("<Q", ">Q")))
        struct.pack_into(code, content, at, value & (0xFFFF if code[1] == "H" else 0xFFFF_FFFF))
    if kind == "zeros":
        start = int(random.integers(len(content)))
        stop = start + int(random.integers(1, 2000))
        content[start:stop] = bytes(len(content[start:stop]))
    if kind == "doubled":
        content *= 2
    if kind == "inserted":
        at = int(random.integers(len(content)))
        content[at:at] = random.bytes(int(random.integers(1, 5000)))
    return kind, bytes(content)
