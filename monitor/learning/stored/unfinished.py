"""The sound of a `monitor learn` that is not complete, as frames on disk, so that it is resumed after a restart.

Each process that learns writes its stream to `state_dir/learned/MACHINE/unfinished/`, a part every two minutes and one at its
end: `0001-0001.npz`, `0001-0002.npz`, after a restart `0002-0001.npz`. No part is written twice.
"""

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from monitor.errors import SinkError, SourceError
from monitor.files import atomic_write, below, read_regular
from monitor.learning.rescore import TickRun
from monitor.learning.stored.session_file import MAX_BYTES, decode, encode
from monitor.learning.stored.sessions import FOLDER
from monitor.scoring.features import TickFrames
from monitor.scoring.scorer import ScorerSpec

log = logging.getLogger(__name__)
UNFINISHED = "unfinished"
PART_S = 120.0


def unfinished_folder(state_dir: Path, machine: str) -> Path:
    """The folder of a machine's unfinished session."""
    return below(state_dir, FOLDER, machine, UNFINISHED)


class UnfinishedSession:
    """The parts of one machine. A part that cannot be read or written costs its sound and is logged; it raises nothing."""

    def __init__(self, state_dir: Path, machine: str, spec: ScorerSpec) -> None:
        self._folder = unfinished_folder(state_dir, machine)
        self._spec = spec
        self._part_ticks = round(PART_S / spec.tick_s)
        names = [path.stem for path in self._paths()]
        self._run = 1 + max((int(name.partition("-")[0]) for name in names), default=0)
        self._n_parts = 0
        self._n_written = 0  # ticks of the stream
        self._n_bytes = sum(path.stat().st_size for path in self._paths())
        self._is_full = False

    def read(self) -> list[list[TickFrames]]:
        """The streams of earlier processes. What follows a part that is missing is another stream."""
        streams: list[list[TickFrames]] = []
        last = (0, 0)  # run and number
        for path in self._paths():
            try:
                (part,) = decode(read_regular(path, max_bytes=MAX_BYTES, within=self._folder), self._spec)
            except (OSError, SourceError, ValueError) as error:
                log.warning("%s: its sound is lost: %s", path, error)
                continue
            run, number = map(int, path.stem.split("-"))
            if (run, number - 1) != last:
                streams.append([])
            streams[-1].extend(part)
            last = (run, number)
        return streams

    def update(self, ticks: TickRun, *, is_end: bool = False) -> None:
        """Write the ticks of the stream since the last part, if there are enough for a part, or if this is the end.

        The last tick may still receive a profile, so it waits for the next part.
        """
        new = ticks[self._n_written :] if is_end else ticks[self._n_written : -1]
        if self._is_full or not new or (len(new) < self._part_ticks and not is_end):
            return
        self._n_written += len(new)
        self._n_parts += 1
        try:
            self._write(new)
        except OSError as error:
            log.warning("%s: cannot be written, a restart would lose the sound: %s", self._folder, error.strerror)

    def _write(self, ticks: Sequence[TickFrames]) -> None:
        content = encode([ticks], self._spec)
        self._n_bytes += len(content)
        self._is_full = self._n_bytes > MAX_BYTES
        if self._is_full:
            log.warning("%s: full, a restart would lose the sound from now on", self._folder)
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            atomic_write(self._folder / f"{self._run:04d}-{self._n_parts:04d}.npz", content)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9].npz"))


def remove_unfinished(state_dir: Path, machine: str) -> None:
    """Remove a machine's unfinished session and the command that started it."""
    with suppress(SinkError):  # a link, behind which nothing is ours
        shutil.rmtree(unfinished_folder(state_dir, machine), ignore_errors=True)
