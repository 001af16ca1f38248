"""Put a folder that was written aside in the place of an older one, whole or not at all, and lose nothing of others."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of <fcntl.h> and <linux/fs.h>


@contextmanager
def replacing(out: Path, *, ours: Callable[[str], bool]) -> Iterator[Path]:
    """A new folder to write to, which takes the place of `out` when all went well.

    Of an older `out` only files that are `ours`, by their POSIX path within, are replaced or removed; others are carried
    over. A failure or an interruption leaves what was there before. Where `out` is a link, what it leads to is replaced.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield aside
        _carry_over(out, aside, ours)
        aside.chmod(0o755)
        _swap(out, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _carry_over(old: Path, new: Path, ours: Callable[[str], bool]) -> None:
    """Copy what somebody else put into the old folder."""
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not ours(name) and not (new / name).exists():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, new / name, follow_symlinks=False)


def _swap(out: Path, new: Path) -> None:
    """Put `new` in the place of `out`; at no time is there neither, where the file system knows how."""
    _to_disk(new)
    if _exchange(out, new):  # what is older goes with the folder aside
        _to_disk(out.parent)
        return
    old = new.with_name(new.name + "-old")
    with suppress(FileNotFoundError):
        out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        raise
    _to_disk(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names at once (Linux: renameat2); False where one is missing or the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    return renameat2 is not None and renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _to_disk(folder: Path) -> None:
    """Names in it outlast a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
