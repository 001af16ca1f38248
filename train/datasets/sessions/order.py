"""The order in which the recordings of a data set were made, the sessions that they fall into, and folds in time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate, pairwise
from pathlib import PurePosixPath
from statistics import median
from typing import Literal, TypeVar

from monitor.errors import SourceError
from train.datasets.clip import Clip, Dataset
from train.datasets.sessions.file_times import file_times
from train.datasets.sessions.recorded import read_recorded
from train.datasets.sessions.times import natural, numbered, times_in_names

Source = Literal["recorded.csv", "times in names", "folders", "numbers in names", "file times", "names"]
Unit = TypeVar("Unit")

GAP_S = 1_800.0  # a longer pause begins a new session
GAP_SPACINGS = 4.0  # and also longer than this many times the median distance between recordings
LONG_GAP_S = 8 * 3_600.0  # in any case: another shift, another day
LONGEST_S = 24 * 3_600.0  # of a session; recordings at an even pace, day and night, are of several days
ONE_SESSION = "all recordings are from one session: record other days, loads and speeds, or they will look like faults"
UNKNOWN_SESSIONS = (
    "the recordings have no times, so they count as one session: record other days, loads and speeds, or they will look like "
    "faults"
)
_NO_CONDITION = ("channel", "snr")  # attributes of files, not of the machine


@dataclass(frozen=True, kw_only=True)
class RecordingOrder:
    """Recordings in order of time, by the names in `Clip.recording`, and the same ones grouped into sessions.

    Sessions are in the order of their first recordings. There is one where sessions cannot be distinguished. `times` are
    the starts of the recordings, or None if the source has none.
    """

    source: Source
    recordings: tuple[str, ...]
    sessions: tuple[tuple[str, ...], ...]
    session_names: tuple[str, ...]
    times: Mapping[str, datetime] | None = field(default=None, compare=False)


def recording_order(dataset: Dataset, clips: Sequence[Clip]) -> RecordingOrder:
    """Order the recordings of these clips by the best available source; SourceError where there are none.

    The sources, best first: `recorded.csv` in the root (SourceError where it is wrong), times in names, sub-folders, numbers
    in names, modification times that no copy has made, names. Sub-folders, and in the published layouts conditions, are
    sessions; otherwise a gap in the times begins a new one.
    """
    if not clips:
        raise SourceError(f"{dataset.root}: must hold recordings to be put in order, got none")
    groups = {clip.recording: _group(dataset, clip) for clip in clips}
    names = sorted(groups, key=natural)
    if (recorded := read_recorded(dataset, clips)) is not None:
        source: Source = "recorded.csv"
        times: Mapping[str, datetime] | None = {name: recorded[name].at for name in names}
        groups = {name: session for name in names if (session := recorded[name].session) is not None} or groups
    else:
        source, times = _times(dataset, clips, names, has_groups=len(set(groups.values())) > 1)
    if times is None:
        names.sort(key=lambda name: natural(groups[name]))
    else:
        names.sort(key=times.__getitem__)
    keys = list(dict.fromkeys(groups[name] for name in names))
    if len(keys) > 1 or times is None:
        sessions = [[name for name in names if groups[name] == key] for key in keys]
    else:
        sessions = _between_gaps(names, times)
        keys = [f"{times[session[0]]:%Y-%m-%d %H:%M}" for session in sessions]
    return RecordingOrder(
        source=source,
        recordings=tuple(names),
        sessions=tuple(map(tuple, sessions)),
        session_names=tuple(keys),
        times=times,
    )


def one_session_note(order: RecordingOrder) -> str | None:
    """A note for a data set of one session; None where there are several."""
    if len(order.sessions) > 1:
        return None
    return UNKNOWN_SESSIONS if order.source in ("numbers in names", "names") else ONE_SESSION


def folds(order: RecordingOrder, *, n_folds: int = 5) -> tuple[tuple[str, ...], ...]:
    """The recordings in `n_folds` blocks of time, or as many as there are recordings; where there are sessions, whole ones.

    Sessions are grouped to folds of about the same size. One is split in time only where there are fewer than `n_folds`.
    """
    return _folds(order.sessions, n_folds=n_folds)


def clip_folds(
    order: RecordingOrder, dataset: Dataset, clips: Sequence[Clip], *, n_folds: int = 5
) -> tuple[tuple[Clip, ...], ...]:
    """The same with clips, which may also split a recording between its files where there are too few recordings.

    That is done in the plain layout alone, whose files of one recording are cuts that follow each other in time.
    """
    ordered = sorted(clips, key=lambda clip: natural(dataset.relative(clip)))
    files: dict[str, list[tuple[Clip, ...]]] = {}
    for clip in ordered:
        files.setdefault(clip.recording, []).append((clip,))
    if dataset.layout != "plain":
        files = {name: [tuple(clip for (clip,) in parts)] for name, parts in files.items()}
    found = _folds([[part for name in session for part in files[name]] for session in order.sessions], n_folds=n_folds)
    return tuple(tuple(clip for part in fold for clip in part) for fold in found)


def _times(
    dataset: Dataset, clips: Sequence[Clip], names: Sequence[str], *, has_groups: bool
) -> tuple[Source, Mapping[str, datetime] | None]:
    """The best source other than `recorded.csv`, and its times if it has any."""
    if dataset.layout != "plain":
        return "numbers in names", None
    times = times_in_names([name.partition("/")[2] for name in names])
    if times is not None:
        return "times in names", dict(zip(names, times, strict=True))
    if has_groups:
        return "folders", None
    if numbered(names):
        return "numbers in names", None
    found = file_times(clips)
    return ("names", None) if found is None else ("file times", found)


def _group(dataset: Dataset, clip: Clip) -> str:
    """The clip's session or condition, from its layout."""
    if dataset.layout == "plain":
        folder = PurePosixPath(clip.recording).parent
        return PurePosixPath(*folder.parts[1:]).as_posix()
    parts = [clip.machine, clip.id, clip.section and f"section {clip.section}", clip.domain]
    conditions = [f"{name} {value}" for name, value in clip.attributes.items() if name not in _NO_CONDITION]
    return " ".join([*(part for part in parts if part), *conditions]) or "."


def _between_gaps(names: Sequence[str], times: Mapping[str, datetime]) -> list[list[str]]:
    spacings = [(times[after] - times[before]).total_seconds() for before, after in pairwise(names)]
    longest = min(LONG_GAP_S, max(GAP_S, GAP_SPACINGS * median(spacings))) if spacings else GAP_S
    sessions = [[names[0]]]
    for name, spacing in zip(names[1:], spacings, strict=True):
        if spacing > longest or (times[name] - times[sessions[-1][0]]).total_seconds() >= LONGEST_S:
            sessions.append([])
        sessions[-1].append(name)
    return sessions


def _folds(sessions: Sequence[Sequence[Unit]], *, n_folds: int) -> tuple[tuple[Unit, ...], ...]:
    if len(sessions) >= n_folds:
        return _grouped(sessions, n_folds)
    n_parts = [1] * len(sessions)
    while sum(n_parts) < n_folds:
        share, at = max((len(session) / n, -at) for at, (session, n) in enumerate(zip(sessions, n_parts, strict=True)))
        if share <= 1.0:
            break
        n_parts[-at] += 1
    return tuple(part for session, n in zip(sessions, n_parts, strict=True) for part in _cut(session, n))


def _grouped(sessions: Sequence[Sequence[Unit]], n_folds: int) -> tuple[tuple[Unit, ...], ...]:
    """Group neighbouring sessions into folds, each as close as possible to its share of the rest."""
    found: list[tuple[Unit, ...]] = []
    rest = list(sessions)
    for n_left in range(n_folds, 0, -1):
        sizes = list(accumulate(map(len, rest)))
        share, most = sizes[-1] / n_left, len(rest) - n_left + 1
        n = len(rest) if n_left == 1 else min(range(1, most + 1), key=lambda n: abs(sizes[n - 1] - share))
        found.append(tuple(unit for session in rest[:n] for unit in session))
        rest = rest[n:]
    return tuple(found)


def _cut(session: Sequence[Unit], n: int) -> list[tuple[Unit, ...]]:
    edges = [len(session) * at // n for at in range(n + 1)]
    return [tuple(session[start:stop]) for start, stop in pairwise(edges)]
