"""Folders on disk and in object stores, through fsspec: list, copy, publish a finished folder."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from monitor.errors import ConfigError, SinkError, SourceError, printable
from monitor.files import atomic_replace_dir, atomic_write

FAILURES = "failures.jsonl"  # the first file of a run
COMPLETE = "complete.json"  # the last file of a folder; without it the folder is not finished
MAX_FILES = 1_000_000  # of a machine
MAX_JSON = 50_000_000  # bytes
KEPT_FREE = 1 << 30  # bytes of a disk
_STALE_S = 3600.0  # after which an unfinished folder belongs to a killed process
_CONTENT = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "created")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_remote(place: str) -> bool:
    """Whether a place is a URL. Plan and command have removed `file://`."""
    return bool(_URL.match(place))


def file_system(place: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system of a place and the path in it. ConfigError for an unknown protocol, or one whose library is missing."""
    if not is_remote(place):
        raise ConfigError(f"must be a URL, got {place}")
    try:
        from fsspec.core import url_to_fs

        fs, path = url_to_fs(place, **(options if place.startswith(("s3://", "s3a://")) else {}), use_listings_cache=False)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("fsspec", "s3fs"):
            raise
        raise ConfigError(f"{place}: {error}") from error
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{place}: cannot be opened: {printable(str(error))}") from error
    return fs, str(path).rstrip("/")


@dataclass(frozen=True)
class RemoteFile:
    """A file in an object store: its path below the folder, its size in bytes, and the store's identification of its content."""

    path: str
    size: int
    content: str


def remote_files(place: str, options: Mapping[str, Any]) -> list[RemoteFile]:
    """The files below a folder, sorted by path. SourceError where there are none, too many, or one with an unsafe name."""
    fs, root = file_system(place, options)
    try:
        infos = fs.find(root, detail=True)
    except Exception as error:
        raise SourceError(f"{place}: cannot be listed: {_text(error)}") from error
    if len(infos) > MAX_FILES:
        raise SourceError(f"{place}: must hold at most {MAX_FILES} files, got {len(infos)}")
    found = []
    for name, info in sorted(infos.items()):
        path = str(name).removeprefix(f"{root}/")
        if info.get("type") == "directory" or path.endswith("/"):
            continue
        if not _is_safe(path):
            raise SourceError(f"{place}: has a file whose name leads out of the folder: {path!r}")
        content = next((str(info[key]).strip('"') for key in _CONTENT if info.get(key)), None)
        if content is None:
            raise SourceError(f"{place}: gives neither hashes nor times of its files, so changes would go unnoticed; copy it")
        found.append(RemoteFile(path, int(info.get("size") or 0), content))
    if not found:
        raise SourceError(f"{place}: contains no files")
    return found


def copy_here(place: str, options: Mapping[str, Any], folder: Path) -> None:
    """Copy the files below a remote folder to a new folder. SourceError where the disk has no room, or a file cannot be read."""
    files = remote_files(place, options)
    total, free = sum(file.size for file in files), shutil.disk_usage(folder.parent).free
    if total + KEPT_FREE > free:
        sizes = f"take {total / 1e9:.1f} GB, but {folder.parent} has {free / 1e9:.1f} GB free and 1 GB is kept"
        raise SourceError(f"{place}: its recordings {sizes}: set TMPDIR to a larger disk")
    fs, root = file_system(place, options)
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fs.get_file(f"{root}/{file.path}", str(path))
            os.utime(path, (0, 0))  # else a slow copy would look like recordings made one after the other
        except Exception as error:
            raise SourceError(f"{place}/{file.path}: cannot be read: {_text(error)}") from error


class Store:
    """The output of a run: a folder on disk or in an object store.

    On disk a folder appears under its name when it is complete. In an object store, where nothing can be renamed, its last
    file is `complete.json`, and readers ignore a folder without it.
    """

    def __init__(self, place: str, options: Mapping[str, Any]) -> None:
        self.place = place
        self._fs: Any = None
        self._root = place
        if is_remote(place):
            self._fs, self._root = file_system(place, options)

    def path(self, name: str) -> str:
        """The full path or URL of a file."""
        return f"{self.place.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none. SinkError if it is too large or cannot be read."""
        try:
            if self._fs is None:
                path = Path(self._root, name)
                size = path.stat().st_size
                content = path.read_bytes() if size <= MAX_JSON else b""
            else:
                size = self._fs.info(f"{self._root}/{name}")["size"]
                content = self._fs.cat_file(f"{self._root}/{name}") if size <= MAX_JSON else b""
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:
            raise SinkError(f"{self.path(name)}: cannot be read: {_text(error)}") from error
        if size > MAX_JSON:
            raise SinkError(f"{self.path(name)}: must have at most {MAX_JSON:,} bytes, got {size:,}")
        return content

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The mapping in a JSON file; None if there is none, or if it is damaged and so counts as not complete."""
        content = self.read(name)
        with suppress(ValueError, RecursionError):
            found = None if content is None else json.loads(content)
            return found if isinstance(found, dict) else None
        return None

    def write(self, name: str, content: bytes) -> None:
        """Write or replace one file at once. SinkError if that fails."""
        try:
            if self._fs is None:
                path = Path(self._root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(path, content, part=f"{os.getpid()}-{os.urandom(4).hex()}.part")  # others may write it, too
            else:
                self._fs.pipe_file(f"{self._root}/{name}", content)
        except Exception as error:
            raise SinkError(f"{self.path(name)}: cannot be written: {_text(error)}") from error

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted; empty if there is none."""
        try:
            if self._fs is None:
                return sorted(path.name for path in Path(self._root, folder).iterdir() if path.is_file())
            return sorted(PurePosixPath(path).name for path in self._fs.ls(f"{self._root}/{folder}", detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except Exception as error:
            raise SinkError(f"{self.path(folder)}: cannot be listed: {_text(error)}") from error

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        with suppress(FileNotFoundError):
            if self._fs is None:
                Path(self._root, name).unlink(missing_ok=True)
            else:
                self._fs.rm_file(f"{self._root}/{name}")

    def publish(self, folder: Path, name: str, summary: Mapping[str, Any]) -> None:
        """Put a finished folder under its name, with `summary` as its `complete.json`. One that is complete is kept."""
        if self.read_json(f"{name}/{COMPLETE}") is not None:
            return
        content = indented_json(summary)
        if self._fs is None:
            self._publish_on_disk(folder, Path(self._root, name), content)
            return
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.write(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        self.write(f"{name}/{COMPLETE}", content)

    def _publish_on_disk(self, folder: Path, target: Path, content: bytes) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for stale in _stale(target.parent):
                stale.unlink(missing_ok=True) if stale.is_file() else shutil.rmtree(stale, ignore_errors=True)
            with atomic_replace_dir(target, is_ours=lambda _: True) as part:
                shutil.copytree(folder, part, dirs_exist_ok=True, copy_function=_copy_synced)
                atomic_write(part / COMPLETE, content)
        except OSError as error:
            if not (target / COMPLETE).is_file():  # else another worker was faster
                raise SinkError(f"{target}: cannot be written: {error.strerror or error}") from error


def indented_json(content: Mapping[str, Any]) -> bytes:
    """Indented JSON without NaN."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def in_words(error: Exception) -> str:
    """An error in one line; of files, with the name."""
    if isinstance(error, OSError):
        return printable(f"{error.filename or 'a file'}: {error.strerror or error}")
    return str(error)


def _copy_synced(source: str, target: str) -> None:
    """Copy a file so that it survives a power cut."""
    shutil.copyfile(source, target)
    with Path(target).open("rb") as file:
        os.fsync(file.fileno())


def _stale(folder: Path) -> Iterator[Path]:
    """Folders and files that a killed process has left."""
    for path in (*folder.glob(".*-*"), *folder.glob("*.part")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                yield path


def _is_safe(path: str) -> bool:
    return bool(path) and "\0" not in path and not any(part in ("", ".", "..") for part in path.split("/")) and os.sep == "/"


def _text(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return printable(" ".join(text.split()))[:300]
