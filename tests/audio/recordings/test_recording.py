"""A recording that may not be read is reported as such, in one line."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from monitor.audio.recording import Recording, file_sha256
from monitor.errors import SourceError
from tests.audio.rights import without_root
from tests.signals import hum


def hash_of(path: Path) -> object:
    return file_sha256(path)


def opened(path: Path) -> object:
    return Recording(path, sample_rate_hz=16_000)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may enter, which pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("read", [opened, hash_of])
def test_permission_denied_is_named(folder: Path, read: Callable[[Path], object]) -> None:
    path = folder / "secret.wav"
    soundfile.write(path, hum(0, 16_000), 16_000)
    path.chmod(0o000)
    with without_root(), pytest.raises(SourceError) as raised:
        read(path)
    assert str(raised.value) == f"{path}: cannot be read: Permission denied"


@pytest.mark.parametrize("read", [opened, hash_of])
def test_a_file_that_disappears_is_named(folder: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(SourceError, match=r"gone\.wav: cannot be read: No such file or directory$"):
        read(folder / "gone.wav")


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_blocks_have_the_length_that_is_asked_for(folder: Path, rate_hz: int) -> None:
    soundfile.write(folder / "a.wav", hum(0, 20 * rate_hz + 100, rate_hz=rate_hz), rate_hz)
    blocks = list(Recording(folder / "a.wav", sample_rate_hz=rate_hz).blocks(block_s=1.7))
    assert [len(block.samples) for block in blocks] == [round(1.7 * rate_hz)] * 11 + [round(1.3 * rate_hz) + 100]
