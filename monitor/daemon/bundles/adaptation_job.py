"""`set/calibrate` and `set/learn`: run the command of that name as a child process, so that detection is not delayed.

Learning is resumed after a restart: the command is on disk until its child has ended, next to the sound (`UnfinishedSession`).
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from monitor.child_process import child_command
from monitor.config import MachineConfig
from monitor.daemon.control.commands import MAX_BYTES, MAX_REASON, Refused
from monitor.errors import SinkError, printable
from monitor.files import atomic_write, read_regular
from monitor.learning.report_text import duration
from monitor.learning.stored.sessions import FOLDER
from monitor.learning.stored.unfinished import UNFINISHED, remove_unfinished, unfinished_folder
from monitor.mqtt.messages import Calibrate, Learn

log = logging.getLogger(__name__)
END_S = 1.0  # from SIGTERM to SIGKILL
STOP_S = 2.0  # at the stop of the service, also if the disk hangs
MAX_RESULT = 1_000
MAX_LINES = 100
COMMAND = "command.json"
CHANGED = "the machine was disabled, or its bundle or microphone was changed"
MAX_ERROR = 100_000  # bytes
PROGRESS = b"progress: "  # begins a line with a JSON object
Adaptation = Calibrate | Learn
Done = Callable[[str, Adaptation, str | None, str | None], None]  # machine, command, reason of failure, result
Progress = Callable[[str, dict[str, Any] | None], None]  # machine, and where it stands; None at the end
SOURCE = {"bundle", "microphone", "channel", "microphone_rate_hz"}  # settings without which sound is of no use
Source = dict[str, Any]


MAX_AGE_S = 24 * 3600.0  # of an interrupted learning


class Interrupted(BaseModel):
    """What is on disk while a machine is learned."""

    command: Learn
    source: Source


class AdaptationJob:
    """Runs one calibration or learning at a time. All calls must come from the daemon's event loop."""

    def __init__(
        self,
        config_path: Path | None,
        environment: Mapping[str, str],
        done: Done,
        progress: Progress | None = None,
        *,
        state_dir: Path | None = None,
    ) -> None:
        """Without `state_dir`, nothing is resumed."""
        self._state_dir = state_dir
        self._config_path = config_path
        self._environment = environment
        self._done = done
        self._progress = progress or (lambda _machine, _data: None)
        self._why_refused = ""  # why another command is refused while this one runs
        self._machine: str | None = None  # that is being learned
        self._why_cancelled: str | None = None
        self._sources: dict[str, Source] = {}
        self._task: asyncio.Task[None] | None = None
        self._resuming: asyncio.Task[None] | None = None

    def apply_config(self, machines: Mapping[str, MachineConfig]) -> None:
        """Take note of the machines that should run. Stop learning one that no longer should, or whose sound is another's."""
        before = self._sources
        self._sources = {name: settings.model_dump(mode="json", include=SOURCE) for name, settings in machines.items()}
        machine = self._machine
        if machine is not None and self._sources.get(machine) != before.get(machine):
            self._cancel(f"stopped: {CHANGED}")

    def start(self, machine: str, command: Adaptation, *, resumes: bool = False) -> None:
        """Start a command and call `done` when it ends; Refused if another one is running."""
        if self._task is not None and not self._task.done():
            raise Refused(self._why_refused)
        self._why_refused = (
            f"{machine} is being learned; one at a time. To end it: monitor learn --machine {machine} --stop, "
            'or {"stop": true} to set/learn'
            if isinstance(command, Learn)
            else f"{machine} is being calibrated; one at a time. Wait until it ends"
        )
        self._machine = machine if isinstance(command, Learn) else None
        self._why_cancelled = None
        self._task = asyncio.get_running_loop().create_task(self._run(machine, command, resumes=resumes))

    def resume(self) -> None:
        """Resume the learning that the end of the service has interrupted. What was learned of other machines is discarded."""
        if self._state_dir is not None and self._task is None:
            self._resuming = asyncio.get_running_loop().create_task(self._resume(self._state_dir))

    async def _resume(self, state_dir: Path) -> None:
        for machine, found in (await asyncio.to_thread(_read_interrupted, state_dir)).items():
            if machine == self._machine:  # ordered meanwhile
                continue
            if isinstance(found, str) or found.source != self._sources.get(machine):
                why = found if isinstance(found, str) else CHANGED
                log.warning("%s: the interrupted learning is discarded: %s", machine, why)
                await asyncio.to_thread(remove_unfinished, state_dir, machine)
            elif self._task is None:
                log.info("%s: learning was interrupted by a restart and continues", machine)
                self.start(machine, found.command, resumes=True)

    def cancel(self, machine: str) -> None:
        """Stop learning a machine and discard its sound; Refused if it is not being learned."""
        if self._task is None or self._task.done() or self._machine != machine:
            raise Refused(f"{machine} is not being learned")
        self._cancel("stopped")

    def _cancel(self, why: str) -> None:
        assert self._task is not None
        self._machine, self._why_cancelled = None, why
        asyncio.get_running_loop().call_soon(self._task.cancel)  # a task that is cancelled before its first step never runs

    async def stop(self) -> None:
        """Stop the running command. A calibration leaves nothing behind; learning continues after the next start."""
        tasks = {task for task in (self._task, self._resuming) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)

    async def _run(self, machine: str, command: Adaptation, *, resumes: bool) -> None:
        kept = command if isinstance(command, Learn) and self._state_dir is not None else None
        try:
            if kept is not None and not resumes:
                found = Interrupted(command=kept, source=self._sources.get(machine, {}))
                if await _to_the_end(self._write_unfinished, machine, found):
                    raise asyncio.CancelledError
            outcome = await self._outcome(machine, command)
        except asyncio.CancelledError:
            if self._why_cancelled is None:  # the service ends
                raise
            outcome = self._why_cancelled, None
        finally:
            self._machine = None
            self._progress(machine, None)
        if kept is not None:
            await _to_the_end(self._forget, machine)
        self._done(machine, command, *outcome)

    def _write_unfinished(self, machine: str, found: Interrupted) -> None:
        assert self._state_dir is not None
        remove_unfinished(self._state_dir, machine)
        try:
            folder = unfinished_folder(self._state_dir, machine)
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / COMMAND, found.model_dump_json().encode())
        except (OSError, SinkError) as error:
            log.warning("%s: a restart would end the learning: %s", machine, printable(str(error)))

    def _forget(self, machine: str) -> None:
        assert self._state_dir is not None
        remove_unfinished(self._state_dir, machine)

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
                    start_new_session=True,  # ctrl-C in the service's terminal is the service's end, not that of the learning
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
    force = ["--force"] if command.force else []
    if isinstance(command, Learn):
        return ["learn", "--yes", "--minutes", str(command.minutes), *(["--extend"] if command.extend else []), *force]
    if command.undo:
        return ["calibrate", "--undo", *force]
    return ["calibrate", "--minutes", str(command.minutes), *force]


def _read_interrupted(state_dir: Path) -> dict[str, Interrupted | str]:
    """The interrupted learning of each machine, or the reason why it cannot continue."""
    found: dict[str, Interrupted | str] = {}
    for path in sorted((state_dir / FOLDER).glob(f"*/{UNFINISHED}/{COMMAND}")):
        machine = path.parent.parent.name
        try:
            found[machine] = Interrupted.model_validate_json(read_regular(path, max_bytes=MAX_BYTES))
            age_s = time.time() - max(one.stat().st_mtime for one in path.parent.iterdir())
            if age_s > MAX_AGE_S:
                found[machine] = f"its sound is {duration(age_s / 3600)} old; learn the machine again"
        except (OSError, ValidationError):
            found[machine] = "its command is damaged"
    return found


async def _to_the_end(call: Callable[..., None], *arguments: object) -> bool:
    """Call it on a thread, to the end; return whether this task was cancelled meanwhile."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    is_cancelled = False
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:  # noqa: PERF203
            is_cancelled = True
    return is_cancelled


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
