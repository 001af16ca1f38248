"""A bundle as one file: an uncompressed tar archive of the same bytes for the same bundle, without its report."""

import io
import os
import tarfile
from pathlib import Path

from monitor.bundle.budget import DEVICE
from monitor.bundle.load import sha256
from monitor.bundle.manifest import MANIFEST, MAX_BYTES, FileRef, parse_manifest, read_content
from monitor.errors import BundleError
from monitor.files import read_regular

MAX_ARCHIVE_BYTES = DEVICE.n_bytes + 2_000_000
MAX_FILES = 3  # manifest, model, statistics
COMMAND = "make it with: tar -cf FILE -C FOLDER manifest.json model.tflite statistics.npz"


def pack(folder: Path) -> bytes:
    """The archive of the bundle in a folder. BundleError if a file is missing, too large or not the one of the manifest."""
    content = read_content(folder)
    files = {MANIFEST: content}
    for ref in _references(folder, content):
        try:
            files[ref.file] = read_regular(folder / ref.file, max_bytes=DEVICE.n_bytes, within=folder)
        except OSError as error:
            raise BundleError(f"{folder / ref.file}: cannot be read: {error.strerror}") from error
        if sha256(files[ref.file]) != ref.sha256:
            raise BundleError(f"{folder / ref.file}: is not the file of the manifest")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def unpack(content: bytes, out: Path, *, what: str) -> str:
    """Write the files of an archive to the folder `out`, flushed to disk, and return the SHA-256 of the manifest.

    Only regular files are written, directly into the folder, and no more bytes than a bundle may have. In the archive they may be
    in one folder, as `tar cf fan.tar fan/` writes them. BundleError names `what`.
    """
    if len(content) > MAX_ARCHIVE_BYTES:
        raise BundleError(f"{what}: must have at most {MAX_ARCHIVE_BYTES / 1e6:.0f} MB, got {len(content) / 1e6:.1f} MB")
    try:
        files = _members(content)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise BundleError(f"{what}: is not an archive of a bundle: {error}") from error
    manifest = files.get(MANIFEST)
    if manifest is None:
        raise BundleError(f"{what}: has no {MANIFEST}")
    if len(manifest) > MAX_BYTES:
        raise BundleError(f"{what}: {MANIFEST} must have at most {MAX_BYTES} bytes, got {len(manifest)}")
    wanted = {MANIFEST, *(ref.file for ref in _references(out, manifest))}
    if wanted != set(files):
        raise BundleError(f"{what}: must have the files {', '.join(sorted(wanted))}, got {', '.join(sorted(files))}; {COMMAND}")
    for name, data in files.items():
        fd = os.open(out / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return sha256(manifest)


def _members(content: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    folders: set[str] = set()
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for member in tar:
            folder, _, name = member.name.rpartition("/")
            if member.isdir() and not folder:
                folder, name = name, ""
            folders.add(folder)
            if len(folders) > 1 or folder == ".." or "/" in folder or member.name.startswith("/"):
                raise ValueError(f"{member.name[:100]!r} must be in no folder, or all files in one; {COMMAND}")
            if member.isdir() and not name:
                continue
            if len(files) == MAX_FILES:
                raise ValueError(f"it must have at most {MAX_FILES} files; {COMMAND}")
            if not member.isreg() or member.issparse() or member.type == tarfile.CONTTYPE:
                raise ValueError(f"{name[:100]!r} must be a regular file")
            if "/" in name or "\\" in name or name.startswith(".") or not name.isprintable() or name in files:
                raise ValueError(f"{name[:100]!r} must be the name of a file of the bundle")
            if not 0 <= member.size <= len(content):
                raise ValueError(f"{name[:100]!r} must have at most {len(content)} bytes, got {member.size}")
            data = tar.extractfile(member)
            files[name] = b"" if data is None else data.read(member.size)
            if len(files[name]) != member.size:
                raise ValueError(f"{name[:100]!r} is truncated")
    return files


def _references(folder: Path, content: bytes) -> list[FileRef]:
    """The files that a manifest names."""
    manifest = parse_manifest(folder, content)
    refs: list[FileRef] = [manifest.model]
    if manifest.detector.statistics is not None:
        refs.append(manifest.detector.statistics)
    return refs
