"""Find the sound files of a folder; links to folders are followed."""

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

SUFFIXES = ({f".{name.lower()}" for name in soundfile.available_formats()} | {".oga", ".opus", ".aif"}) - {".raw"}


@dataclass
class FoundFiles:
    """Sorted paths of files with a sound file's suffix; and what was skipped, with the reason by path."""

    files: list[Path] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)


def sound_files(root: Path) -> FoundFiles:
    """All sound files under `root` except hidden ones. Every folder is read once, under its own name rather than a link's."""
    found, seen, whole = FoundFiles(), dict[Path, Path](), root.resolve()
    starts = deque([root])  # links are followed last
    while starts:
        start = starts.popleft()
        if start != root and any(folder.is_relative_to(start.resolve()) for folder in (whole, start.parent.resolve())):
            found.skipped[start] = "link to a parent folder"
            continue
        for folder, names, files in os.walk(start, onerror=lambda error: _unreadable(error, found)):
            here = Path(folder)
            before = seen.setdefault(here.resolve(), here)
            if before != here:
                found.skipped[here] = f"the same folder as {before.relative_to(root).as_posix()}"
                names.clear()
                continue
            names[:] = sorted(name for name in names if not _hidden(name))
            starts.extend(path for name in names if (path := here / name).is_symlink())
            for name in sorted(files):
                _sort(here / name, found)
    found.files.sort()
    return found


def _sort(path: Path, found: FoundFiles) -> None:
    if _hidden(path.name):
        return
    if path.is_symlink() and not path.exists():
        found.skipped[path] = "broken link"
    elif path.suffix.lower() in SUFFIXES and path.is_file():
        found.files.append(path)


def _unreadable(error: OSError, found: FoundFiles) -> None:
    found.skipped[Path(error.filename)] = f"cannot be read: {error.strerror}"


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
