"""Sound files of a folder, and their hashes."""

from pathlib import Path

import soundfile

SUFFIXES = ({f".{name.lower()}" for name in soundfile.available_formats()} | {".oga", ".opus", ".aif"}) - {".raw"}


def sound_files(root: Path) -> list[Path]:
    """Paths of all files under `root` that by their name hold sound, in order; hidden ones do not count."""
    found = (path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(_hidden(part) for part in path.relative_to(root).parts))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
