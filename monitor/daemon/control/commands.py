"""Commands from the network: queued up to a limit, validated, executed and answered."""

import logging
import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pydantic import ValidationError

from monitor.config.messages import problems
from monitor.daemon.control.socket import printable
from monitor.errors import StethosError
from monitor.events.event import rfc3339
from monitor.log_limit import of_kind
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
    by: str | None = None  # who sent it over the control socket; None: it came over MQTT
    reply: Callable[[ResponseMessage], None] | None = None


Act = Callable[[Arrived, Command], None]  # raises Refused
Answer = Callable[[str, ResponseMessage], None]


class Commands:
    """Accepts commands on any thread and executes them on the daemon's thread."""

    def __init__(self, act: Act, answer: Answer, record: Callable[[dict[str, Any]], None], *, wake: Callable[[], None]) -> None:
        """`answer` receives the machine and the response to publish; `record` the line for the audit log.

        `wake` is called on any thread when a command has arrived; `process_pending` should follow soon.
        """
        self.n_dropped = 0
        self.n_failures = 0  # unexpected errors
        self._act = act
        self._answer = answer
        self._record = record
        self._wake = wake
        self._waiting: queue.Queue[Arrived] = queue.Queue(MAX_WAITING)

    def arrive(self, machine: str, name: str, payload: bytes, retained: bool) -> None:
        """Queue a command, or drop it if the queue is full. Never blocks; can be called on any thread."""
        try:
            self._waiting.put_nowait(Arrived(machine, name, payload[: MAX_BYTES + 1], retained))
        except queue.Full:
            if self.n_dropped % MAX_WAITING == 0:
                log.warning("too many commands; dropped so far: %d", self.n_dropped + 1, extra=of_kind("dropped"))
            self.n_dropped += 1
        else:
            self._wake()

    def order(self, machine: str, name: str, payload: bytes, *, by: str, reply: Callable[[ResponseMessage], None]) -> None:
        """Queue a command from the control socket; Refused if the queue is full. `reply` receives the response."""
        try:
            self._waiting.put_nowait(Arrived(machine, name, payload[: MAX_BYTES + 1], False, by, reply))
        except queue.Full:
            self.n_dropped += 1
            raise Refused("too many commands at once; try again") from None
        self._wake()

    @property
    def n_waiting(self) -> int:
        """The number of commands that wait."""
        return self._waiting.qsize()

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
            self._act(arrived, command)
        except Refused as error:
            reason = _printable(str(error))
        except Exception as error:
            self.n_failures += 1
            log.exception("%s: %s failed", _printable(arrived.machine), _printable(arrived.name), extra=of_kind("failed"))
            reason = _printable(f"unexpected error: {type(error).__name__}")
        request = None if command is None else command.request
        payload = _printable(arrived.payload.decode("utf-8", "replace"))
        response = self.answer(arrived.machine, arrived.name, reason=reason, request=request, payload=payload, by=arrived.by)
        if arrived.reply is not None:
            arrived.reply(response)

    def answer(
        self,
        machine: str,
        name: str,
        *,
        reason: str | None,
        request: str | None,
        result: str | None = None,
        payload: str | None = None,
        by: str | None = None,
    ) -> ResponseMessage:
        """Publish and record the response to a command. A long-running command gets a second response, with its result."""
        outcome = "accepted" if result is None else f"done: {result.removeprefix(f'{machine}: ')}"
        outcome = outcome if reason is None else f"refused: {reason}"
        sender = "" if by is None else f" (by {by})"
        # Only an accepted command is known to name a machine and a command of ours.
        kind = "refused" if reason is not None else f"{machine}: {name} {'accepted' if result is None else 'done'}"
        log.info("%s: %s %s%s", _printable(machine), _printable(name), outcome, sender, extra=of_kind(kind))
        response = ResponseMessage(
            ts=rfc3339(datetime.now(timezone.utc)),
            command=name,
            accepted=reason is None,
            reason=reason,
            request=request,
            result=result,
        )
        self._answer(machine, response)
        who = {} if by is None else {"by": by}
        self._record({"machine": machine, **who, "payload": payload, **response.model_dump(exclude={"schema_"})})
        return response


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
