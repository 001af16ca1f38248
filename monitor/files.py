"""Atomic writes of files and folders, bounded reads, locks, and access with the rights of a folder's owner."""

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from monitor.errors import SinkError, StethosError

LOCK_EVERY_S = 0.1
IS_LINK = "is a link, which is not followed; remove it"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of <fcntl.h> and <linux/fs.h>


def read_regular(path: Path, *, max_bytes: int, within: Path | None = None) -> bytes:
    """The content of a regular file. OSError if it is a pipe, device or folder, too large, or a link that leads out of `within`.

    Never waits, although opening a pipe would.
    """
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)  # opening a device may have effects
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name contains a null character") from error
    if not is_regular:
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # replaced in between
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if within is not None and not _real_path(file.fileno(), path).is_relative_to(_real_folder(within)):
            raise OSError(errno.EXDEV, "it is a link out of its folder", str(path))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        limit = f"{max_bytes / 1e6:g} MB" if max_bytes >= 1e6 else f"{max_bytes / 1e3:g} kB"
        raise OSError(errno.EFBIG, f"larger than {limit}", str(path))
    return content


def atomic_write(path: Path, content: bytes, *, mode: int = 0o666, part: str = "part") -> None:
    """Write or replace a file. After a power cut, either the old or the new file exists. On OSError the old one stays.

    `mode` is reduced by the process's umask. `part` ends the name of the file as long as it is written; processes that may
    write the same one need different ones.
    """
    new = path.with_name(f"{path.name}.{part}")
    new.unlink(missing_ok=True)  # of a killed process, or a link
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    sync_dir(path.parent)


@contextmanager
def atomic_replace_dir(out: Path, *, is_ours: Callable[[str], bool]) -> Iterator[Path]:
    """Yield a new folder to write to, which replaces `out` if the block succeeds.

    `is_ours` receives the path of a file within an existing `out`, in POSIX form. Files for which it is true are replaced
    or removed; all others are copied to the new folder. A failure or interruption leaves the old folder in place. If `out`
    is a link, its target is replaced.
    """
    out = out.resolve() if out.is_symlink() else out
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield new
        _copy_others(out, new, is_ours)
        new.chmod(0o755)
        _swap(out, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def lock(path: Path, *, wait_s: float = 0.0) -> int:
    """Acquire the lock and return its file descriptor.

    BlockingIOError if another process still holds it after `wait_s`, OSError for a link.
    """
    fd, until_s = _open(path, os.O_RDWR | os.O_CREAT), time.monotonic() + wait_s
    try:
        while not _try_lock(fd):
            if time.monotonic() >= until_s:
                raise BlockingIOError(errno.EAGAIN, "another process holds the lock", str(path))
            time.sleep(LOCK_EVERY_S)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def append(path: Path, content: bytes) -> int:
    """Append to a file that only its owner can read, and return its new size. OSError if it is a link."""
    fd = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK)
    with os.fdopen(fd, "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
        return file.tell()


class OpenFiles:
    """The files at some paths, to detect that one of them was deleted, replaced or shortened while it is open."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen = self._look()

    def are_replaced(self) -> bool:
        """Whether one was, since the last call. Files that grow, or that are new, are not."""
        before, self._seen = self._seen, self._look()
        found = self._seen
        return any(path not in found or found[path][:2] != was[:2] or found[path][2] < was[2] for path, was in before.items())

    def _look(self) -> dict[Path, tuple[int, int, int]]:
        found = {}
        for path in self._paths:
            with suppress(OSError):
                status = path.stat()
                found[path] = (status.st_dev, status.st_ino, status.st_size)
        return found


def user_state_dir(environment: Mapping[str, str], name: str) -> Path | None:
    """The folder of a program's state for a user, by the XDG Base Directory Specification; None if the user has no home."""
    try:
        return Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / name
    except RuntimeError:
        return None


def readable_by_others(path: Path) -> bool:
    """Whether users other than the owner and the group can read a file, given the modes of the file and of its folders."""
    try:
        path = path.resolve()
        return bool(path.stat().st_mode & 0o004) and all(folder.stat().st_mode & 0o001 for folder in path.parents)
    except OSError:
        return False


def below(folder: Path, *names: str) -> Path:
    """The path of a folder or file below `folder`; SinkError if one of its parts is a link."""
    for name in names:
        folder /= name
        if folder.is_symlink():
            raise SinkError(f"{folder} {IS_LINK}")
    return folder


def foreign_owner(folder: Path) -> int | None:
    """If this process is root, the id of the other user who owns the folder; else None."""
    try:
        owner = folder.stat().st_uid
    except OSError:
        return None
    return owner if os.geteuid() == 0 and owner != 0 else None


@contextmanager
def as_owner(folder: Path) -> Iterator[Path]:
    """Inside this context, a process of root has only the rights of the user who owns the folder; yield the path to use there.

    That user may have put links anywhere below the folder. Root must not follow them with its own rights. The path leads to
    the folder even if the user may not enter its parents, such as systemd's /var/lib/private.
    """
    if foreign_owner(folder) is None:
        yield folder
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    inside, owner = f"/proc/self/fd/{fd}", os.fstat(fd)
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.setgroups([])
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        yield Path(inside)
    except StethosError as error:
        error.args = tuple(str(text).replace(inside, str(folder)) for text in error.args)
        raise
    except OSError as error:
        error.filename = str(error.filename or folder).replace(inside, str(folder))
        raise
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
        os.close(fd)


def _real_folder(folder: Path) -> Path:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _real_path(fd, folder)
    finally:
        os.close(fd)


def _real_path(fd: int, path: Path) -> Path:
    """The place of an open file, even if this process may not enter the folders that lead there (see `as_owner`)."""
    try:
        return Path(f"/proc/self/fd/{fd}").readlink()
    except OSError:  # a system without /proc
        return path.resolve()


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise (OSError(errno.ELOOP, IS_LINK, str(path)) if error.errno == errno.ELOOP else error) from None


def _copy_others(old: Path, new: Path, is_ours: Callable[[str], bool]) -> None:
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not is_ours(name) and not (new / name).exists():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, new / name, follow_symlinks=False)


def _swap(out: Path, new: Path) -> None:
    """Replace `out` with `new`. If the file system supports an exchange, an existing `out` is never missing in between."""
    sync_dir(new)
    if _exchange(out, new):  # the caller removes the old folder, which is now named `new`
        sync_dir(out.parent)
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
    sync_dir(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap the names of two folders (Linux: renameat2); False if one is missing or the file system does not support it."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    return renameat2 is not None and renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def sync_dir(folder: Path) -> None:
    """Flush the folder's entries to disk, so that they survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
