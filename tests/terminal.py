"""A program in a pseudo-terminal of its own: what it prints is read, and its questions are answered."""

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parent.parent


class Terminal:
    """`monitor WORDS…` in a pseudo-terminal."""

    def __init__(self, *words: object, environment: Mapping[str, str]) -> None:
        self.text = ""  # everything that was printed
        self._seen = 0
        command = [sys.executable, "-m", "monitor.cli.main", *map(str, words)]
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(ROOT)
            os.execve(sys.executable, command, {**os.environ, **environment, "TERM": "xterm", "COLUMNS": "120"})
        self._status: int | None = None

    def expect(self, pattern: str, *, within_s: float = 60.0) -> str:
        """Wait until something that matches has been printed since the last answer; return the match."""
        until = time.monotonic() + within_s
        while (found := re.search(pattern, self.text[self._seen :])) is None:
            if time.monotonic() > until or not self._read(0.2):
                raise AssertionError(f"{pattern} was not printed:\n{self.text}")
        self._seen += found.end()
        return found[0]

    def answer(self, question: str, text: str = "") -> None:
        """Wait for a question and type an answer and Enter."""
        self.expect(question)
        os.write(self._fd, f"{text}\n".encode())

    def press(self, key: str) -> None:
        """Type without Enter, such as \\x03 for Ctrl-C."""
        os.write(self._fd, key.encode())

    def hang_up(self) -> None:
        """Break the connection, as when SSH is lost."""
        os.close(self._fd)
        self._fd = -1
        self._reap()

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self._reap()

    def wait(self, *, within_s: float = 60.0) -> int:
        """The exit status."""
        until = time.monotonic() + within_s
        while self._read(0.2):
            if time.monotonic() > until:
                raise AssertionError(f"it does not end:\n{self.text}")
        return self._reap()

    def interrupt(self, key: str) -> int:
        """Press Ctrl-C or Ctrl-D until it ends: Python misses one that comes between a question and the reading of its answer."""
        for _ in range(12):
            self.press(key)
            with suppress(AssertionError):
                return self.wait(within_s=5.0)
        return self.wait(within_s=0.0)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        if self._status is None:
            self.kill()
        if self._fd >= 0:
            os.close(self._fd)

    def _read(self, wait_s: float) -> bool:
        """Read what has been printed; False at the end."""
        if not select.select([self._fd], [], [], wait_s)[0]:
            return True
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # Linux reports the end of a pseudo-terminal as EIO
            return False
        self.text += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    def _reap(self) -> int:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._status
