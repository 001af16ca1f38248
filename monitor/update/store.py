"""The installed bundles of a machine on disk. The file that names the one in use is replaced last, and atomically."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitor.bundle.load import load_bundle
from monitor.bundle.manifest import read_manifest
from monitor.bundle.trial import try_bundle
from monitor.config.installed import INSTALLED, MACHINES, MAX_REFUSED, Installed, find_installed, machine_folder, read_installed
from monitor.errors import BundleError
from monitor.files import atomic_write, foreign_owner, lock, sync_dir
from monitor.releases.archive import unpack
from monitor.update.errors import UpdateError

_TEMPORARY = ".new-"
_OURS = re.compile(rf"{re.escape(_TEMPORARY)}.*|[a-z0-9][a-z0-9_-]*-[0-9a-f]{{12}}")


class Store:
    """The bundles of a machine below the folder of installed bundles."""

    def __init__(self, folder: Path, machine: str) -> None:
        """UpdateError if the folder cannot be written, or is a link, which the service would not follow."""
        self._folder = folder
        self._machine = machine
        self.path = machine_folder(folder, machine)
        for path in (folder / MACHINES, self.path):
            if path.is_symlink():
                raise UpdateError(
                    f"{path.absolute()}: must be a folder, got a link to {path.readlink()}; to use another disk, set "
                    "update.state_dir or mount it there"
                )
        with _disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def read(self) -> Installed:
        """The bundle in use, and the one before."""
        return read_installed(self._folder, self._machine)

    def add(self, archive: bytes, *, digest: str | None, what: str) -> str:
        """Unpack and check a bundle; return its folder's name. It is not in use yet.

        BundleError if it is not the bundle with this digest, damaged, too large, or does not load in a child process.
        """
        with _disk_errors(self.path):
            new = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self.path))
            try:
                found = unpack(archive, new, what=what)
                if digest is not None and found != digest:
                    raise BundleError(f"{what}: must be the bundle {digest[:12]}, got {found[:12]}")
                name = f"{read_manifest(new).name[:150]}-{found[:12]}"
                if (self.path / name).is_dir() and _loads(self.path / name):
                    return name
                try_bundle(new)
                new.chmod(0o755)
                shutil.rmtree(self.path / name, ignore_errors=True)
                sync_dir(new)
                new.rename(self.path / name)
                sync_dir(self.path)
                return name
            except BundleError as error:
                raise BundleError(str(error).replace(f"{new}/", "").replace(str(new), what)) from error
            finally:
                shutil.rmtree(new, ignore_errors=True)

    def write(self, installed: Installed) -> None:
        """Replace the file. Bundles that it does not name stay until `clean`."""
        refused = dict([*installed.refused.items()][-MAX_REFUSED:])
        with _disk_errors(self.path):
            content = installed.model_copy(update={"refused": refused}).model_dump_json(indent=1).encode() + b"\n"
            atomic_write(self.path / INSTALLED, content, mode=0o644)

    def clean(self) -> None:
        """Remove what an interrupted run has left, and bundles that are no longer needed.

        Nothing is removed if the file that names those in use is damaged, and nothing that no update has made.
        """
        installed = find_installed(self._folder, self._machine)
        if installed is None:
            return
        needed = {one.folder for one in (installed.current, installed.previous) if one is not None}
        for entry in [*os.scandir(self.path)]:
            if entry.is_dir(follow_symlinks=False) and entry.name not in needed and _OURS.fullmatch(entry.name):
                shutil.rmtree(entry.path, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder of installed bundles; UpdateError if another update is running."""
    with _disk_errors(folder):
        try:
            held = lock(folder / "lock")
        except BlockingIOError as error:
            raise UpdateError(f"{folder}: another monitor update or install-bundle is running") from error
    try:
        yield
    finally:
        os.close(held)


def as_its_owner(folder: Path) -> Path:
    """Make the folder if there is none. Give up the rights of root for those of its owner, for good. Return the path to use.

    The owner may not enter the parents of the folder, such as systemd's /var/lib/private, so it becomes the current folder.
    """
    with _disk_errors(folder):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if foreign_owner(folder) is None:
        return folder
    os.chdir(folder)
    status = Path().stat()
    os.setgroups([])
    os.setgid(status.st_gid)
    os.setuid(status.st_uid)
    return Path()


def _loads(folder: Path) -> bool:
    try:
        load_bundle(folder)
    except BundleError:
        return False
    return True


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UpdateError(f"{path}: cannot be written: {error.strerror}; the bundle in use stays") from error
