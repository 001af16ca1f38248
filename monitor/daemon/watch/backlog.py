"""The lines that a watching client has not read yet: bounded, and without frames if it is slow."""

import asyncio
from collections import deque

from monitor.json_lines import to_json

MAX_BYTES = 1_000_000  # beyond this the client is disconnected
MAX_FRAME_BYTES = 256_000  # beyond this it loses frames
TAKE_BYTES = 64_000


class Backlog:
    """Lines for one client, in order. All calls must come from the event loop; only `take` waits."""

    def __init__(self, frames: frozenset[str] | None) -> None:
        """`frames` are the machines whose frames the client wants; None: all."""
        self._frames = frames
        self.is_over = False  # it has overflowed
        self._lines: deque[bytes] = deque()
        self.n_bytes = 0  # that wait
        self._n_lost = 0  # frame lines since the last one that was accepted
        self._is_closed = False
        self._changed = asyncio.Event()

    def wants_frames(self, machine: str) -> bool:
        """Whether the client wants the frames of a machine."""
        return self._frames is None or machine in self._frames

    def put(self, line: bytes) -> None:
        """Append a line. If there is no room, everything is dropped and the stream ends."""
        if self._is_closed:
            return
        self.n_bytes += len(line)
        if self.n_bytes > MAX_BYTES:
            self.is_over = True
            self._lines.clear()
            self.close()
            return
        self._lines.append(line)
        self._changed.set()

    def put_frame(self, line: bytes) -> None:
        """Append a line of frames if the client keeps up, else count it as lost."""
        if self.n_bytes > MAX_FRAME_BYTES:
            self._n_lost += 1
            return
        if self._n_lost:
            self.put(line_of("lost", {"frames": self._n_lost}))
            self._n_lost = 0
        self.put(line)

    def close(self) -> None:
        """Accept no more lines. The stream ends when those in it have been taken."""
        self._is_closed = True
        self._changed.set()

    @property
    def is_empty(self) -> bool:
        """Whether everything has been taken."""
        return not self._lines

    async def take(self) -> bytes | None:
        """Wait for lines and remove about TAKE_BYTES of them; None at the end."""
        while not self._lines:
            if self._is_closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        taken = [self._lines.popleft()]
        n_bytes = len(taken[0])
        while self._lines and n_bytes < TAKE_BYTES:
            taken.append(self._lines.popleft())
            n_bytes += len(taken[-1])
        self.n_bytes -= n_bytes
        return b"".join(taken)


def line_of(kind: str, data: object, *, machine: str | None = None) -> bytes:
    """One line of the stream."""
    about = {} if machine is None else {"machine": machine}
    return to_json({"kind": kind, **about, "data": data}).encode("utf-8", "backslashreplace") + b"\n"
