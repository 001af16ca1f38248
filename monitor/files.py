"""Bounded reads, atomic writes of files and folders, and locks that are released when their process ends."""

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of <fcntl.h> and <linux/fs.h>


def read_regular(path: Path, *, max_bytes: int, within: Path | None = None) -> bytes:
    """The content of a regular file. OSError if it is a pipe, device or folder, too large, or a link that leads out of `within`.

    Never waits, although opening a pipe would.
    """
    try:
        real = os.path.realpath(path)
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name contains a null character") from error
    if within is not None and not Path(real).is_relative_to(os.path.realpath(within)):
        raise OSError(errno.EXDEV, "it is a link out of its folder", str(path))
    if not stat.S_ISREG(Path(real).stat().st_mode):  # opening a device may have effects
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with os.fdopen(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes / 1000:g} kB", str(path))
    return content


def atomic_write(path: Path, content: bytes) -> None:
    """Write or replace a file. After a power cut, either the old or the new file exists. On OSError the old one stays."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    _sync_dir(path.parent)


@contextmanager
def atomic_replace_dir(out: Path, *, is_ours: Callable[[str], bool]) -> Iterator[Path]:
    """Yield a new folder to write to, which replaces `out` if the block succeeds.

    `is_ours` receives the path of a file within an existing `out`, in POSIX form. Files for which it is true are replaced
    or removed; all others are copied to the new folder. A failure or interruption leaves the old folder in place. If `out`
    is a link, its target is replaced.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield new
        _copy_others(out, new, is_ours)
        new.chmod(0o755)
        _swap(out, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def lock(path: Path) -> int:
    """Acquire the lock and return its file descriptor; BlockingIOError if another process holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def give_to_owner(state_dir: Path, *paths: Path) -> None:
    """If a tool runs as root, give the paths it wrote to the owner of the state directory, which is the service's user."""
    owner = state_dir.stat()
    if os.geteuid() == 0:
        for path in paths:
            with suppress(OSError):
                os.chown(path, owner.st_uid, owner.st_gid)


def _copy_others(old: Path, new: Path, is_ours: Callable[[str], bool]) -> None:
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not is_ours(name) and not (new / name).exists():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, new / name, follow_symlinks=False)


def _swap(out: Path, new: Path) -> None:
    """Replace `out` with `new`. If the file system supports an exchange, an existing `out` is never missing in between."""
    _sync_dir(new)
    if _exchange(out, new):  # the caller removes the old folder, which is now named `new`
        _sync_dir(out.parent)
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
    _sync_dir(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap the names of two folders (Linux: renameat2); False if one is missing or the file system does not support it."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    return renameat2 is not None and renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _sync_dir(folder: Path) -> None:
    """Flush the folder's entries to disk, so that they survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
