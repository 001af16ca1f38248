"""The parent's handle on a capture process: start, poll, kill. `wait`, `close` and `list_devices` block for a limited time."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from monitor.audio.capture import Request
from monitor.audio.devices import Device, Unavailable, device_from_json
from monitor.audio.ring import Ring, new_ring_fd
from monitor.child_process import child_command
from monitor.errors import SourceError

LIST_S = 15.0  # PortAudio opens every device in order to list it
EXIT_S = 1.0  # for a killed process, which may be stuck in a driver


class CaptureProcess:
    """One attempt to capture, by `command`, which reads the request from its standard input."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._received = b""
        self._ring_fd: int | None = new_ring_fd()
        try:
            self._process = subprocess.Popen(
                command or child_command("monitor.audio.capture"),
                stdin=subprocess.PIPE,  # closes when we exit, which ends the child
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[self._ring_fd],
                start_new_session=True,
            )
        except BaseException:
            os.close(self._ring_fd)
            raise
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)

    def request(self, request: Request) -> None:
        """Send the request. Called once."""
        assert self._process.stdin is not None and self._ring_fd is not None
        line = json.dumps(request._replace(ring_fd=self._ring_fd)._asdict()).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `opened` finds
            os.write(self._process.stdin.fileno(), line)

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


class CaptureLauncher:
    """Starts capture processes. With `ahead`, the first one loads PortAudio now, while its device is not known yet."""

    def __init__(self, command: Sequence[str] | None = None, *, ahead: bool = False) -> None:
        self._command = command
        self._ahead: CaptureProcess | None = None
        self._discarded: CaptureProcess | None = None
        if ahead:
            with contextlib.suppress(OSError):  # a microphone reports it when it tries the same
                self._ahead = CaptureProcess(command)

    def __call__(self) -> CaptureProcess:
        """A process that waits for its request. OSError if it cannot be started."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            if not ahead.is_gone():
                return ahead
            ahead.kill()  # closes its files
        if self._discarded is not None and not self._discarded.is_gone():
            raise OSError(f"capture process {self._discarded.pid} does not exit after SIGKILL: an audio driver hangs")
        return CaptureProcess(self._command)

    def discard(self) -> None:
        """Kill the process that nobody has needed."""
        if self._ahead is not None:
            self._ahead.kill()
            self._ahead, self._discarded = None, self._ahead

    def close(self) -> None:
        """Discard, and wait for the killed process."""
        self.discard()
        if self._discarded is not None:
            self._discarded.wait(EXIT_S)


def list_devices() -> list[Device]:
    """The devices that PortAudio finds now, listed in a new process."""
    command = child_command("monitor.audio.capture", "--list")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        output, _ = process.communicate(timeout=LIST_S)
        answer = json.loads(output)
    except subprocess.TimeoutExpired as error:
        process.kill()  # no wait: it may hang in a driver
        raise SourceError(f"microphones: PortAudio did not answer within {LIST_S:g} s; an audio driver may hang") from error
    except ValueError as error:
        raise SourceError(f"microphones: the listing process failed with status {process.returncode}") from error
    if "trouble" in answer:
        raise SourceError(f"microphones: {answer['detail']}")
    return [device_from_json(item) for item in answer["devices"]]
