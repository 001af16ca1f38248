"""The parent's handle on a capture process: start, poll, kill. Only `wait` blocks, for at most its timeout."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from monitor.audio.capture import Request
from monitor.audio.devices import Device, Unavailable, device_from_json
from monitor.audio.ring import Ring, new_ring_fd
from monitor.child_process import child_command
from monitor.errors import SourceError

MakeCommand = Callable[[Request], list[str]]  # the command of a capture process; the demonstration has one of its own


def capture_command(request: Request) -> list[str]:
    """The command that captures a device."""
    return child_command("monitor.audio.capture", json.dumps(request._asdict()))


class CaptureProcess:
    """One attempt to capture."""

    def __init__(self, request: Request, make_command: MakeCommand = capture_command) -> None:
        self.started_s = time.monotonic()
        ring_fd = new_ring_fd()
        self._ring_fd: int | None = ring_fd
        self._received = b""
        request = request._replace(ring_fd=ring_fd)
        try:
            self._process = subprocess.Popen(
                make_command(request),
                stdin=subprocess.PIPE,  # never written to; it closes when we exit, which ends the child
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[ring_fd],
                start_new_session=True,
            )
        except BaseException:
            os.close(ring_fd)
            raise
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._process.pid

    def opened(self) -> tuple[Device, Ring] | None:
        """The device and the ring, returned only once, as soon as they are open. Unavailable if the process failed or ended."""
        message = self._message()
        if message is not None and "device" in message:
            device = device_from_json(message["device"])
            assert self._ring_fd is not None
            fd, self._ring_fd = self._ring_fd, None
            try:
                return device, Ring.attach(fd)
            except SourceError as error:
                raise Unavailable("failed", str(error)) from error
        if message is not None and "trouble" in message:
            raise Unavailable(message["trouble"], message["detail"])
        status = self._process.poll()
        if status is not None:
            cause = signal.Signals(-status).name if status < 0 else f"status {status}"
            raise Unavailable("lost", f"the capture process ended with {cause}")
        return None

    def kill(self) -> None:
        """Kill the process and its children."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # already ended
                os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        if self._ring_fd is not None:
            os.close(self._ring_fd)
            self._ring_fd = None

    def is_gone(self) -> bool:
        """Whether the process has been reaped. A process stuck in the kernel may never be."""
        return self._process.poll() is not None

    def wait(self, timeout_s: float) -> None:
        """Wait for the process to end, at most `timeout_s`."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel; init will reap it
            self._process.wait(timeout_s)

    def _message(self) -> dict[str, Any] | None:
        """The next message, if it has arrived completely."""
        if b"\n" not in self._received:
            try:
                self._received += os.read(self._output, 65536)
            except BlockingIOError:
                return None
        line, newline, rest = self._received.partition(b"\n")
        if not newline:
            return None
        self._received = rest
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            raise Unavailable("failed", f"unexpected output of the capture process: {line[:80]!r}") from None
        return message
