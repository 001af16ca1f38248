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
