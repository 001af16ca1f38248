"""`set/calibrate` and `set/learn`: run the command of that name as a child process, so that detection is not delayed."""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from monitor.child_process import child_command
from monitor.daemon.control.commands import MAX_REASON, Refused
from monitor.mqtt.messages import Calibrate, Learn

log = logging.getLogger(__name__)
END_S = 1.0  # from SIGTERM to SIGKILL
MAX_RESULT = 500
MAX_LINES = 100
MAX_ERROR = 100_000  # bytes
PROGRESS = b"progress: "  # begins a line with a JSON object
Adaptation = Calibrate | Learn
Done = Callable[[str, Adaptation, str | None, str | None], None]  # machine, command, reason of failure, result
Progress = Callable[[str, dict[str, Any] | None], None]  # machine, and where it stands; None at the end


class AdaptationJob:
    """Runs one calibration or learning at a time. All calls must come from the daemon's event loop."""

    def __init__(
        self, config_path: Path | None, environment: Mapping[str, str], done: Done, progress: Progress | None = None
    ) -> None:
        self._config_path = config_path
        self._environment = environment
        self._done = done
        self._progress = progress or (lambda _machine, _data: None)
        self._running: str | None = None  # what is running, in words
        self._task: asyncio.Task[None] | None = None

    def start(self, machine: str, command: Adaptation) -> None:
        """Start a command and call `done` when it ends; Refused if another one is running."""
        if self._task is not None and not self._task.done():
            raise Refused(f"{self._running}; one at a time")
        self._running = f"{machine} is being {'learned' if isinstance(command, Learn) else 'calibrated'}"
        self._task = asyncio.get_running_loop().create_task(self._run(machine, command))

    async def stop(self) -> None:
        """Stop the running command. It leaves nothing behind."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, machine: str, command: Adaptation) -> None:
        try:
            self._done(machine, command, *await self._outcome(machine, command))
        finally:
            self._progress(machine, None)

    async def _outcome(self, machine: str, command: Adaptation) -> tuple[str | None, str | None]:
        """The reason of the failure, and the result."""
        name, *words = _words(command)
        config = [] if self._config_path is None else ["--config", str(self._config_path)]
        words = [*words, "--machine", machine, "--end-with-stdin", "--progress"]
        result: list[bytes] = []
        try:
            with _lifeline() as stdin:
                child = await asyncio.create_subprocess_exec(
                    *child_command("monitor.cli.main", *config, name, *words),
                    stdin=stdin,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=dict(self._environment),
                )
                try:
                    _, err = await asyncio.gather(self._read(child, machine, name, result), _read_all(child.stderr))
                    await child.wait()
                except asyncio.CancelledError:
                    await _end(child)
                    raise
        except OSError as error:
            return f"{name} cannot be started: {error.strerror}", None
        except Exception as error:
            log.exception("%s: %s failed", machine, name)
            return f"unexpected error: {type(error).__name__}", None
        if child.returncode == 0:
            return None, _last_line(b"".join(result))[:MAX_RESULT]
        why = _last_line(err).removeprefix("monitor: error: ") or f"it ended with status {child.returncode}"
        return why[:MAX_REASON], None

    async def _read(self, child: asyncio.subprocess.Process, machine: str, name: str, result: list[bytes]) -> None:
        """Report lines of progress; keep the others, of which the last one is the result."""
        assert child.stdout is not None
        async for line in child.stdout:
            if line.startswith(PROGRESS):
                self._progress(machine, {"command": name, **json.loads(line.removeprefix(PROGRESS))})
            else:
                result[:] = [*result[-MAX_LINES:], line]


def _words(command: Adaptation) -> list[str]:
    """The command line of a command."""
    if isinstance(command, Learn):
        return ["learn", "--yes", "--minutes", str(command.minutes), *(["--extend"] if command.extend else [])]
    if command.undo:
        return ["calibrate", "--undo"]
    return ["calibrate", "--minutes", str(command.minutes), *(["--force"] if command.force else [])]


async def _read_all(stream: asyncio.StreamReader | None) -> bytes:
    """The end of everything that a child writes to a stream."""
    assert stream is not None
    end = b""
    while part := await stream.read(1 << 16):
        end = (end + part)[-MAX_ERROR:]
    return end


@contextmanager
def _lifeline() -> Iterator[int]:
    """A pipe for the child's stdin. It is closed when this process ends, for whatever reason."""
    ends = os.pipe()
    try:
        yield ends[0]
    finally:
        for end in ends:
            os.close(end)


async def _end(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        child.terminate()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(child.wait(), END_S)
            return
        child.kill()
        await child.wait()


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
