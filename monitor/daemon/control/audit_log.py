"""The audit log: one JSON line for each command from the network, in the state directory."""

from functools import partial
from pathlib import Path
from typing import Any

from monitor.clips.worker import BackgroundWorker
from monitor.errors import SinkError
from monitor.files import append
from monitor.json_lines import to_json
from monitor.threads import Probe

MAX_BYTES = 1_000_000  # then the file replaces the previous one, `commands.log.1`
MAX_WAITING = 10_000  # lines


class AuditLog:
    """Writes in the background. All calls must come from one thread; none blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._worker = BackgroundWorker(path.name)

    def record(self, entry: dict[str, Any]) -> None:
        """Add a line; it is written with the next `flush`."""
        if len(self._lines) < MAX_WAITING:
            self._lines.append(to_json(entry).encode("utf-8", "backslashreplace") + b"\n")

    def flush(self) -> None:
        """Write the lines since the last call. Called once a second, so that a flood of commands does not wear out the disk."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._worker.put(partial(self._append, b"".join(lines)))

    def close(self, timeout_s: float) -> None:
        """Write the remaining lines, within `timeout_s`."""
        self.flush()
        self._worker.close(timeout_s)

    def probe(self, *, patience_s: float) -> Probe:
        """The watchdog's view of its thread."""
        return self._worker.probe(patience_s=patience_s)

    def _append(self, lines: bytes) -> None:
        try:
            if append(self._path, lines) > MAX_BYTES:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        except OSError as error:
            raise SinkError(f"{self._path} cannot be written, its lines are lost: {error.strerror}") from error
