"""Sessions of `monitor learn`, stored as frames for `monitor learn --extend`.

The files are called `state_dir/learned/MACHINE/20261121T100000000000.npz` and so on, after the time of the learned bundle.
The files of a machine take up at most 64 MB, which is 3.7 hours at 16 kHz and 64 bands. To make room, every second minute
of the longest session is removed first.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from monitor.errors import SinkError, SourceError
from monitor.files import atomic_write, below
from monitor.learning.report_text import duration
from monitor.learning.rescore import TickRun
from monitor.learning.stored.session_file import MAX_BYTES, decode, encode, halved
from monitor.scoring.features import TickFrames
from monitor.scoring.scorer import ScorerSpec

FOLDER = "learned"
STAMP = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True)
class LearnedSession:
    """The streams of ticks of one `monitor learn`."""

    path: Path
    streams: list[list[TickFrames]]

    def in_words(self, tick_s: float) -> str:
        """The time and the length of the session."""
        began = datetime.strptime(self.path.stem, STAMP)
        return f"{began:%Y-%m-%d %H:%M} UTC ({duration(sum(map(len, self.streams)) * tick_s / 3600)})"


def read_sessions(state_dir: Path, machine: str, spec: ScorerSpec) -> list[LearnedSession]:
    """The sessions of a machine, oldest first. SourceError names a file that cannot be used and the remedy."""
    return [LearnedSession(path, _read(path, spec)) for path in _files(state_dir, machine)]


def write_session(state_dir: Path, machine: str, name: str, streams: Sequence[TickRun], spec: ScorerSpec) -> None:
    """Make room and write a session under the name of its bundle (`learn-STAMP`); SinkError if it cannot be written."""
    path = _folder(state_dir, machine) / f"{_stamp(name)}.npz"
    content = encode(streams, spec)
    while len(content) > MAX_BYTES // 2 and (fewer := halved(streams, spec)) is not None:
        streams = fewer
        content = encode(streams, spec)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(state_dir, machine, spec, n_bytes=len(content))
        atomic_write(path, content)
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror}") from error


def remove_session(state_dir: Path, machine: str, name: str) -> None:
    """Remove the session of a bundle."""
    _remove([_folder(state_dir, machine) / f"{_stamp(name)}.npz"])


def remove_other_sessions(state_dir: Path, machine: str, name: str) -> None:
    """Remove all sessions except that of this bundle."""
    _remove(path for path in _files(state_dir, machine) if path.stem != _stamp(name))


def _read(path: Path, spec: ScorerSpec) -> list[list[TickFrames]]:
    try:
        if (n_bytes := path.stat().st_size) > MAX_BYTES:
            raise SourceError(f"must have at most {MAX_BYTES:,} bytes, got {n_bytes:,}")
        return decode(path.read_bytes(), spec)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    except SourceError as error:
        raise SourceError(f"{path}: {error}; remove it, or learn without --extend") from error


def _make_room(state_dir: Path, machine: str, spec: ScorerSpec, *, n_bytes: int) -> None:
    """Make room for `n_bytes`: thin the longest session (the oldest, if several are equal) until all fit.

    If it is too short for that, remove the oldest session.
    """
    while True:
        sizes = {path: path.stat().st_size for path in _files(state_dir, machine)}
        if not sizes or sum(sizes.values()) + n_bytes <= MAX_BYTES:
            return
        longest = max(sizes, key=lambda path: sizes[path])  # the oldest of equals
        try:
            fewer = halved(_read(longest, spec), spec)
        except SourceError:
            longest.unlink()
            continue
        if fewer is None:
            min(sizes).unlink()
        else:
            atomic_write(longest, encode(fewer, spec))


def _files(state_dir: Path, machine: str) -> list[Path]:
    return sorted(path for path in _folder(state_dir, machine).glob("*.npz") if _is_stamp(path.stem))


def _is_stamp(text: str) -> bool:
    try:
        return bool(datetime.strptime(text, STAMP))
    except ValueError:
        return False


def _stamp(name: str) -> str:
    return name.removeprefix("learn-")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _folder(state_dir: Path, machine: str) -> Path:
    return below(state_dir, FOLDER, machine)
