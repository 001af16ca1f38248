"""Commands from the network: queued up to a limit, validated, executed and answered."""

import logging
import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pydantic import ValidationError

from monitor.config.messages import problems
from monitor.daemon.control import printable
from monitor.errors import StethosError
from monitor.events.event import rfc3339
from monitor.mqtt.contract import COMMANDS
from monitor.mqtt.messages import Command, ResponseMessage

log = logging.getLogger(__name__)
MAX_WAITING = 100
MAX_A_TURN = 10  # so that detection is not delayed
MAX_BYTES = 4_096
MAX_REASON = 200


class Refused(StethosError):
    """A command was refused; the message is the reason."""


@dataclass(frozen=True)
class Arrived:
    """A command as received."""

    machine: str
    name: str
    payload: bytes
    retained: bool


Act = Callable[[str, Command], None]  # raises Refused
Answer = Callable[[str, str], None]


class Commands:
    """Accepts commands on any thread and executes them on the daemon's thread."""

    def __init__(self, act: Act, answer: Answer, record: Callable[[dict[str, Any]], None]) -> None:
        """`answer` receives a topic relative to the node's, and a payload; `record` the line for the audit log."""
        self.n_dropped = 0
        self.n_failures = 0  # unexpected errors
        self._act = act
        self._answer = answer
        self._record = record
        self._waiting: queue.Queue[Arrived] = queue.Queue(MAX_WAITING)

    def arrive(self, machine: str, name: str, payload: bytes, retained: bool) -> None:
        """Queue a command, or drop it if the queue is full. Never blocks; can be called on any thread."""
        try:
            self._waiting.put_nowait(Arrived(machine, name, payload[: MAX_BYTES + 1], retained))
        except queue.Full:
            if self.n_dropped % MAX_WAITING == 0:
                log.warning("too many commands; dropped so far: %d", self.n_dropped + 1)
            self.n_dropped += 1

    def process_pending(self) -> bool:
        """Execute at most MAX_A_TURN queued commands; return whether there were any."""
        n_waiting = min(self._waiting.qsize(), MAX_A_TURN)  # only this thread removes commands
        for _ in range(n_waiting):
            self._execute(self._waiting.get_nowait())
        return n_waiting > 0

    def _execute(self, arrived: Arrived) -> None:
        command, reason = None, None
        try:
            command = read_command(arrived)
            self._act(arrived.machine, command)
        except Refused as error:
            reason = _printable(str(error))
        except Exception as error:
            self.n_failures += 1
            log.exception("%s: %s failed", _printable(arrived.machine), _printable(arrived.name))
            reason = _printable(f"unexpected error: {type(error).__name__}")
        request = None if command is None else command.request
        payload = _printable(arrived.payload.decode("utf-8", "replace"))
        self.answer(arrived.machine, arrived.name, reason=reason, request=request, payload=payload)

    def answer(
        self,
        machine: str,
        name: str,
        *,
        reason: str | None,
        request: str | None,
        result: str | None = None,
        payload: str | None = None,
    ) -> None:
        """Publish and record the response to a command. A long-running command gets a second response, with its result."""
        outcome = "accepted" if result is None else f"done: {result.removeprefix(f'{machine}: ')}"
        log.info("%s: %s %s", machine, name, outcome if reason is None else f"refused: {reason}")
        response = ResponseMessage(
            ts=rfc3339(datetime.now(timezone.utc)),
            command=name,
            accepted=reason is None,
            reason=reason,
            request=request,
            result=result,
        )
        self._answer(f"{machine}/response", response.text)
        self._record({"machine": machine, "payload": payload, **response.model_dump(exclude={"schema_"})})


def read_command(arrived: Arrived, known: Mapping[str, type[Command]] = COMMANDS) -> Command:
    """Parse and validate a command; Refused if it is invalid."""
    if arrived.retained:
        raise Refused("a command must not be retained: it would be executed again after every connection")
    if arrived.name not in known:
        raise Refused(f"the command must be one of {', '.join(known)}, got {arrived.name}")
    if len(arrived.payload) > MAX_BYTES:
        raise Refused(f"the payload must have at most {MAX_BYTES} bytes, got more")
    model = known[arrived.name]
    try:
        return model.model_validate_json(arrived.payload)
    except ValidationError as error:
        where, line = problems(error, model)[0]
        raise Refused(line if where else "the payload must be a JSON object, at least {}") from error


def _printable(text: str) -> str:
    clean = printable(text)
    return clean if len(clean) <= MAX_REASON else f"{clean[: MAX_REASON - 1]}…"
