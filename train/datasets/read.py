"""Read a data set: detect its layout, and label its files."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from monitor.errors import SourceError, UsageError
from train.datasets.clip import Clip, Dataset
from train.datasets.files import sound_files
from train.datasets.layouts import LAYOUTS
from train.text import printable


def read_dataset(root: Path, *, layout: str | None = None) -> Dataset:
    """All sound files under `root` as clips; the layout is the first that every file fits, unless one is given.

    No file is opened. Skipped links and folders are reported on stderr. SourceError describes the expected names where no
    layout fits all files; UsageError lists the layouts.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"--layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    names = list(LAYOUTS) if layout is None else [layout]
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; expected one with {_wanted(names)}")
    found = sound_files(root)
    paths = [path.relative_to(root) for path in found.files]
    if not paths:
        wanted = f"{root}: must hold sound files (WAV, FLAC, Ogg, MP3, …) as {_wanted(names)}; found none"
        raise SourceError(wanted + (f"; skipped {_some(root, found.skipped)}" if found.skipped else ""))
    misfits: dict[str, list[Path]] = {}
    for name in names:
        clips, skipped, misfits[name] = _sort(root, paths, name)
        if clips and not misfits[name]:
            if found.skipped:
                text = f"{root}: skipped {_some(root, found.skipped)}; see train inspect"
                print(f"train: warning: {printable(text)}", file=sys.stderr)
            return Dataset(root=root, layout=name, clips=clips, skipped=found.skipped | dict.fromkeys(skipped, "no machine"))
    raise SourceError(_complaint(root, paths, misfits))


def _sort(root: Path, paths: list[Path], name: str) -> tuple[tuple[Clip, ...], list[Path], list[Path]]:
    """Clips under this layout, files that it skips, and those that do not fit."""
    layout, whole = LAYOUTS[name], root.resolve()
    clips: list[Clip] = []
    skipped: list[Path] = []
    misfits: list[Path] = []
    for path in paths:
        clip = layout.clip(whole, path)
        if clip is not None:
            clips.append(replace(clip, path=root / path))
        elif layout.skipped is not None and layout.skipped.search((whole / path).as_posix()):
            skipped.append(root / path)
        else:
            misfits.append(path)
    return tuple(clips), skipped, misfits


def _complaint(root: Path, paths: list[Path], misfits: dict[str, list[Path]]) -> str:
    nearest = min(misfits, key=lambda name: len(misfits[name]))
    wanted = f"{root}: must hold sound files as {_wanted(list(misfits))}"
    if len(misfits[nearest]) in (0, len(paths)):
        return f"{wanted}; none of its {len(paths)} sound files ({paths[0].as_posix()}, …) fits"
    odd = misfits[nearest]
    return f"{wanted}; {len(paths) - len(odd)} files fit {nearest}, {len(odd)} ({odd[0].as_posix()}, …) do not"


def _some(root: Path, skipped: Mapping[Path, str]) -> str:
    """Their number, and the first of them."""
    path, why = next(iter(skipped.items()))
    return f"{len(skipped)}: {path.relative_to(root).as_posix()} ({why})" + (", …" if len(skipped) > 1 else "")


def _wanted(names: list[str]) -> str:
    return " or ".join(f"{name} ({LAYOUTS[name].files})" for name in names)
