"""A split as three lists of files, train.txt, held_out.txt and test.txt: one path relative to the data set's root per line.

A name that would take more than one line stands as a JSON string. Where train and held_out list the same recordings, cut.txt
holds one number: the share of each that is trained on.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from monitor.errors import SourceError
from train.datasets.clip import Clip, Dataset
from train.datasets.partition import Split

NAMES = ("train", "held_out", "test")
CUT = "cut.txt"


def save_split(split: Split, folder: Path, root: Path) -> None:
    """Write the lists into `folder`, POSIX paths relative to `root`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        clips: Sequence[Clip] = getattr(split, name)
        paths = (clip.path.relative_to(root).as_posix() for clip in clips)
        text = "".join(f"{path if len(path.splitlines()) == 1 else json.dumps(path)}\n" for path in paths)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8", errors="surrogateescape")
    if split.cut is not None:
        (folder / CUT).write_text(f"{split.cut!r}\n")


def load_split(folder: Path, dataset: Dataset) -> Split:
    """Read the lists; SourceError names a path that is not in the data set."""
    clips = {dataset.relative(clip): clip for clip in dataset.clips}
    lists = {name: _load(folder / f"{name}.txt", clips, dataset.root) for name in NAMES}
    return Split(**lists, cut=_load_cut(folder / CUT))


def listed(path: Path) -> frozenset[str]:
    """The names in one of the lists; SourceError where it cannot be read."""
    return frozenset(_from_json(line) or line for line in _lines(path))


def _load_cut(path: Path) -> float | None:
    if not path.is_file():
        return None
    try:
        return float(path.read_text())
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: must contain one number above 0 and below 1") from error


def _load(path: Path, clips: dict[str, Clip], root: Path) -> tuple[Clip, ...]:
    found: list[Clip] = []
    for number, line in enumerate(_lines(path), 1):
        clip = clips.get(line) or clips.get(_from_json(line))
        if clip is None:
            raise SourceError(f"{path}, line {number}: must name a sound file of {root}, got {line!r}")
        found.append(clip)
    return tuple(found)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise SourceError(f"{path}: must be a list of sound files: {error.strerror}") from error


def _from_json(line: str) -> str:
    """The text of a line that is a JSON string, else an empty one; a plain name ends in a suffix, not in a quote."""
    try:
        return str(json.loads(line)) if line.startswith('"') and line.endswith('"') else ""
    except ValueError:
        return ""
