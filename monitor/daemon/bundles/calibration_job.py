"""`set/calibrate`: runs `monitor calibrate` as a child process, so that detection is not delayed."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from monitor.child_process import child_command
from monitor.daemon.commands import MAX_REASON, Refused
from monitor.mqtt.messages import Calibrate

log = logging.getLogger(__name__)
END_S = 1.0  # from SIGTERM to SIGKILL
MAX_RESULT = 500
Done = Callable[[str, Calibrate, str | None, str | None], None]  # machine, command, reason of failure, result


class CalibrationJob:
    """Runs one calibration at a time. All calls must come from the daemon's event loop."""

    def __init__(self, config_path: Path | None, environment: Mapping[str, str], done: Done) -> None:
        self._config_path = config_path
        self._environment = environment
        self._done = done
        self._machine: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, machine: str, command: Calibrate) -> None:
        """Start a calibration and call `done` when it ends; Refused if another one is running."""
        if self._task is not None and not self._task.done():
            raise Refused(f"{self._machine} is being calibrated; one at a time")
        self._machine = machine
        self._task = asyncio.get_running_loop().create_task(self._run(machine, command))

    async def stop(self) -> None:
        """Stop the running calibration. It leaves nothing behind."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, machine: str, command: Calibrate) -> None:
        words = ["--undo"] if command.undo else ["--minutes", str(command.minutes), *(["--force"] if command.force else [])]
        config = [] if self._config_path is None else ["--config", str(self._config_path)]
        try:
            with _lifeline() as stdin:
                child = await asyncio.create_subprocess_exec(
                    *child_command("monitor.cli.main", *config, "calibrate", "--machine", machine, *words, "--end-with-stdin"),
                    stdin=stdin,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=dict(self._environment),
                )
                try:
                    out, err = await child.communicate()
                except asyncio.CancelledError:
                    await _end(child)
                    raise
        except OSError as error:
            self._done(machine, command, f"calibrate cannot be started: {error.strerror}", None)
            return
        except Exception as error:
            log.exception("%s: calibrate failed", machine)
            self._done(machine, command, f"unexpected error: {type(error).__name__}", None)
            return
        if child.returncode == 0:
            self._done(machine, command, None, _last_line(out)[:MAX_RESULT])
        else:
            why = _last_line(err).removeprefix("monitor: error: ") or f"it ended with status {child.returncode}"
            self._done(machine, command, why[:MAX_REASON], None)


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
