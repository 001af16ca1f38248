"""Read a data set: detect its layout, label its files, and choose one machine."""

import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from monitor.errors import SourceError, UsageError, printable
from monitor.learning.report_text import count
from train.datasets.clip import Clip, Dataset
from train.datasets.files import sound_files
from train.datasets.layouts import ANOMALY, LAYOUTS

_WORDS_OF_FAULTS = re.compile(rf"(?<![a-z])(?:{'|'.join(ANOMALY)})(?![a-z])", re.IGNORECASE)

Fit: TypeAlias = tuple[list[Clip], dict[Path, str], list[Path]]  # clips, skipped files with the reason, and files that do not fit


class LayoutError(SourceError):
    """The names of a data set's files do not show which ones are normal. `hints` are further lines: what is expected."""

    def __init__(self, message: str, hints: tuple[str, ...]) -> None:
        super().__init__(message)
        self.hints = hints


def read_dataset(root: Path, *, layout: str | None = None, machine: str | None = None) -> Dataset:
    """All sound files under `root` as clips; the layout is the first that every file fits, unless one is given.

    No file is opened. Skipped files and folders are reported on stderr, as is a folder without labels, whose recordings all
    count as normal. LayoutError where no layout fits all files; UsageError lists the layouts, or the machines where there are
    several and `machine` chooses none: a type such as `fan`, or `fan/id_00`.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"--layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    names = list(LAYOUTS) if layout is None else [layout]
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder")
    found = sound_files(root)
    paths = [path.relative_to(root) for path in found.files]
    skipped = dict(found.skipped)
    if not paths:
        also = f"; skipped {_some(root, skipped)}" if skipped else ""
        raise LayoutError(f"{root}: contains no sound files (WAV, FLAC, Ogg, MP3, …){also}", _hints(root, names))
    fits = {name: _sort(root, paths, name) for name in names}
    chosen = next((name for name, (clips, _, misfits) in fits.items() if clips and not misfits), None)
    if chosen is not None:
        clips = fits[chosen][0]
        skipped |= fits[chosen][1]
    elif (
        "plain" in names
        and not any(clips for clips, *_ in fits.values())
        and not any(_WORDS_OF_FAULTS.search(str(path)) for path in paths)
    ):
        chosen, clips = "plain", [_taken_as_normal(root, path) for path in paths]
        print(printable(f"train: {root}: no folder normal/: taking all {len(clips)} recordings as normal"), file=sys.stderr)
    else:
        raise LayoutError(_complaint(root, paths, fits), _hints(root, names))
    if skipped:
        text = f"{root}: skipped {_some(root, skipped)}; see train inspect"
        print(f"train: warning: {printable(text)}", file=sys.stderr)
    kept = _of_machine(clips, machine)
    skipped |= dict.fromkeys({clip.path for clip in clips} - {clip.path for clip in kept}, "another machine")
    return Dataset(root=root, layout=chosen, clips=kept, skipped=skipped)


def _sort(root: Path, paths: list[Path], name: str) -> Fit:
    """Fit the files to this layout."""
    layout, whole = LAYOUTS[name], root.resolve()
    clips: list[Clip] = []
    skipped: dict[Path, str] = {}
    misfits: list[Path] = []
    for path in paths:
        if (clip := layout.clip(whole, path)) is not None:
            clips.append(replace(clip, path=root / path))
        elif (why := layout.why_skipped(whole / path)) is not None:
            skipped[root / path] = why
        else:
            misfits.append(path)
    return clips, skipped, misfits


def _taken_as_normal(root: Path, path: Path) -> Clip:
    clip = LAYOUTS["plain"].clip(root, "normal" / path)
    assert clip is not None  # a sound file has a suffix
    return replace(clip, path=root / path)


def _of_machine(clips: list[Clip], machine: str | None) -> tuple[Clip, ...]:
    """The clips of one machine; UsageError where it is not clear of which."""
    counts = Counter(clip.machine for clip in clips if clip.machine is not None)
    if machine is None and len(counts) < 2:
        return tuple(clips)
    kept = tuple(clip for clip in clips if machine is not None and machine in (clip.machine, f"{clip.machine}/{clip.id}"))
    if not kept:
        several = (
            ", ".join(f"{name} ({count(n, 'file')})" for name, n in sorted(counts.items()))
            or "left out: this data set names none"
        )
        raise UsageError(f"--machine must be {'one of ' if counts else ''}{several}, got {machine or 'none'}")
    return kept


def _complaint(root: Path, paths: list[Path], fits: Mapping[str, Fit]) -> str:
    nearest = max(fits, key=lambda name: len(fits[name][0]))
    clips, _, odd = fits[nearest]
    if not clips:
        return f"{root}: none of its {len(paths)} sound files has a known label ({paths[0].as_posix()}, …)"
    return f"{root}: {len(clips)} files fit the layout {nearest}, {len(odd)} do not ({odd[0].as_posix()}, …)"


def _hints(root: Path, names: list[str]) -> tuple[str, ...]:
    if "plain" not in names:
        return tuple(f"the layout {name} expects names such as {root / LAYOUTS[name].example}" for name in names)
    return (
        f"put normal recordings into normal/ and faulty ones, if any, into anomaly/, such as {root / LAYOUTS['plain'].example}",
        f"published layouts are recognised as they are: {', '.join(LAYOUTS)} (docs/training.md)",
    )


def _some(root: Path, skipped: Mapping[Path, str]) -> str:
    """Their number, and the first of them."""
    path, why = next(iter(skipped.items()))
    return f"{len(skipped)}: {path.relative_to(root).as_posix()} ({why})" + (", …" if len(skipped) > 1 else "")
