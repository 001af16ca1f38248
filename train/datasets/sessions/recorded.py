"""`recorded.csv`: the time of each recording of a data set, written by hand (docs/recordings.md)."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from monitor.errors import SourceError
from train.datasets.clip import Clip, Dataset

FILE = "recorded.csv"
MAX_BYTES = 50_000_000
REQUIRED = ("path", "recorded_at")
SESSION = "session"


@dataclass(frozen=True)
class Recorded:
    """The time of a recording, and the name of its session: from the column, or from its conditions (load, speed)."""

    at: datetime
    session: str | None


def read_recorded(dataset: Dataset, clips: Sequence[Clip]) -> dict[str, Recorded] | None:
    """The entries of `recorded.csv` in the data set's root, by `Clip.recording`; None without that file.

    Of several files of one recording, the earliest counts. SourceError names the line that is wrong, or a clip that is missing.
    """
    path = dataset.root / FILE
    if not path.is_file():
        return None
    known = {dataset.relative(clip): clip for clip in dataset.clips}
    found: dict[str, Recorded] = {}
    seen: set[str] = set()
    aware: bool | None = None
    for where, row in _rows(path):
        name = row["path"]
        if (clip := known.get(name)) is None:
            if dataset.root / name in dataset.skipped:
                continue
            raise SourceError(f"{where}: path must name a sound file of {dataset.root}, got {name!r}")
        if name in seen:
            raise SourceError(f"{where}: path must name each file once, got {name!r} again")
        seen.add(name)
        at = _time(row["recorded_at"], where)
        if aware not in (None, at.tzinfo is not None):
            raise SourceError(f"{where}: recorded_at must have a time zone in all lines or in none, got {row['recorded_at']!r}")
        aware = at.tzinfo is not None
        at = at if aware else at.replace(tzinfo=timezone.utc)
        if clip.recording not in found or at < found[clip.recording].at:
            found[clip.recording] = Recorded(at, _session(row))
    _check_complete(path, found, clips, dataset)
    return found


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Each row with its file and line; columns are separated by commas or, as some spreadsheets write, semicolons."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SourceError(f"{path}: must have at most {MAX_BYTES:,} bytes, got {path.stat().st_size:,}")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: must be UTF-8, got something else at byte {error.start}") from error
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if ";" in first and "," not in first else ",", strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        missing = [name for name in REQUIRED if name not in columns]
        if missing or len(set(columns)) < len(columns):
            wanted = "columns path, recorded_at and, if any, session and conditions, each once"
            raise SourceError(f"{path}: must begin with the names of the {wanted}, got {first.strip()!r}")
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(columns):
                raise SourceError(f"{where}: must have {len(columns)} columns, got {len(values)}")
            yield where, dict(zip(columns, (value.strip() for value in values), strict=True))
    except csv.Error as error:
        raise SourceError(f"{path}, line {reader.line_num}: {error}") from error


def _time(text: str, where: str) -> datetime:
    """The time, as UTC if it has a time zone."""
    try:
        at = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text)
        return at if at.tzinfo is None else at.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise SourceError(f"{where}: recorded_at must be ISO 8601 such as 2026-11-21T10:00:00, got {text!r}") from None


def _session(row: Mapping[str, str]) -> str | None:
    if row.get(SESSION):
        return row[SESSION]
    conditions = {name: value for name, value in row.items() if name not in (*REQUIRED, SESSION) and value}
    return ", ".join(f"{name} {value}" for name, value in conditions.items()) or None


def _check_complete(path: Path, found: Mapping[str, Recorded], clips: Sequence[Clip], dataset: Dataset) -> None:
    """Every recording is listed; sessions or conditions are given for all of them or for none."""
    missing = [dataset.relative(clip) for clip in clips if clip.recording not in found]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SourceError(f"{path}: must list every normal recording; {missing[0]!r}{more} is missing")
    wanted = [found[clip.recording].session for clip in clips]
    if None in wanted and any(wanted):
        name = dataset.relative(clips[wanted.index(None)])
        raise SourceError(f"{path}: session or conditions must be given for all recordings or for none; {name!r} has none")
