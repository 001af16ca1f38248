"""A client of the stream `watch`, which keeps every line."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from monitor.daemon.control.socket import NAME, open_stream
from tests.waiting import wait_until

Line = dict[str, Any]


class Watching:
    """Reads on a thread, until it is closed or the service ends the stream."""

    def __init__(self, run_folder: Path, *, frames: object = (), on_frame: Callable[[], None] | None = None) -> None:
        """`on_frame` is called when a line of frames arrives."""
        self._on_frame = on_frame
        opened = open_stream(run_folder / NAME, {"do": "watch", "frames": frames or []})
        assert opened is not None
        self.reply, self._connection, self._received = opened
        self._connection.settimeout(60)
        self.lines: list[Line] = []
        self.ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def of(self, kind: str, **values: object) -> list[Line]:
        """The lines of a kind whose data has these values."""
        found = [line for line in [*self.lines] if line["kind"] == kind]
        return [line for line in found if not values or (line["data"] and values.items() <= line["data"].items())]

    def until(self, kind: str, *, within_s: float = 60.0, **values: object) -> Line:
        """Wait for such a line."""
        wait_until(lambda: self.of(kind, **values), within_s, what=f"{kind} {values}; the last: {self.of(kind)[-1:]}")
        return self.of(kind, **values)[-1]

    def wait(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, 60.0, what=what)

    def close(self) -> None:
        self._connection.close()

    def _read(self) -> None:
        received = bytearray(self._received)
        while True:
            *lines, rest = received.split(b"\n")
            for line in map(json.loads, lines):
                self.lines.append(line)
                if self._on_frame is not None and line["kind"] == "frame":
                    self._on_frame()
            received = bytearray(rest)
            try:
                data = self._connection.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                self.ended = True
                return
            received += data

    def __enter__(self) -> "Watching":
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()
