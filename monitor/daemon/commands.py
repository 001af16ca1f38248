"""Commands from the network: bounded while they wait, checked, carried out, answered."""

import logging
import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from pydantic import ValidationError

from monitor.config.messages import problems
from monitor.errors import StethosError
from monitor.events.event import rfc3339
from monitor.mqtt.contract import COMMANDS
from monitor.mqtt.messages import Command, ResponseMessage

log = logging.getLogger(__name__)
MAX_WAITING = 100
MAX_A_TURN = 10  # so that detection is not held up
MAX_BYTES = 4_096
MAX_REASON = 200


class Refused(StethosError):
    """A command that is not carried out, and why."""


@dataclass(frozen=True)
class Arrived:
    """A command as it came."""

    machine: str
    name: str
    payload: bytes
    retained: bool


Act = Callable[[str, Command], None]  # raises Refused
Answer = Callable[[str, str], None]


class Commands:
    """Takes commands from any thread and carries them out on the service's."""

    def __init__(self, act: Act, answer: Answer) -> None:
        """`answer` gets a topic below the node's and what to say there."""
        self.n_dropped = 0
        self._act = act
        self._answer = answer
        self._waiting: queue.Queue[Arrived] = queue.Queue(MAX_WAITING)

    def arrive(self, machine: str, name: str, payload: bytes, retained: bool) -> None:
        """Take one, or drop it if too many wait; from any thread, never blocks."""
        try:
            self._waiting.put_nowait(Arrived(machine, name, payload[: MAX_BYTES + 1], retained))
        except queue.Full:
            if self.n_dropped % MAX_WAITING == 0:
                log.warning("commands come faster than they can be answered; dropped so far: %d", self.n_dropped + 1)
            self.n_dropped += 1

    def process_pending(self) -> bool:
        """Carry out what waits, a few at most; returns whether anything did."""
        n_waiting = min(self._waiting.qsize(), MAX_A_TURN)  # nobody else takes any
        for _ in range(n_waiting):
            self._carry_out(self._waiting.get_nowait())
        return n_waiting > 0

    def _carry_out(self, arrived: Arrived) -> None:
        command, reason = None, None
        try:
            command = read_command(arrived)
            self._act(arrived.machine, command)
        except Refused as error:
            reason = _printable(str(error))
        request = None if command is None else command.request
        self.answer(arrived.machine, arrived.name, reason=reason, request=request)

    def answer(self, machine: str, name: str, *, reason: str | None, request: str | None, result: str | None = None) -> None:
        """Say what became of a command: at once, and once more with the result of one that takes its time."""
        became = "accepted" if result is None else f"done: {result.removeprefix(f'{machine}: ')}"
        log.info("%s: %s %s", machine, name, became if reason is None else f"refused: {reason}")
        response = ResponseMessage(
            ts=rfc3339(datetime.now(timezone.utc)),
            command=name,
            accepted=reason is None,
            reason=reason,
            request=request,
            result=result,
        )
        self._answer(f"{machine}/response", response.text)


def read_command(arrived: Arrived, known: Mapping[str, type[Command]] = COMMANDS) -> Command:
    """Check everything about a command but whether it makes sense now; Refused says what is wrong."""
    if arrived.retained:
        raise Refused("a command must not be retained: it would be carried out again after every connection")
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
    clean = "".join(letter if letter.isprintable() else "?" for letter in text)
    return clean if len(clean) <= MAX_REASON else f"{clean[: MAX_REASON - 1]}…"
