"""Let the running service learn: the same command as `set/learn`, with its progress on the terminal."""

import logging
import secrets
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from tqdm import tqdm

from monitor.cli.adapting.adaptation_input import Target
from monitor.cli.advice import REMEDIES
from monitor.cli.progress import logs_above_progress
from monitor.daemon.control.socket import open_stream, request, stream_lines
from monitor.errors import SourceError, UsageError, printable

log = logging.getLogger(__name__)
ANSWER_S = 20.0
LASTING = 3  # messages, one a second
SILENT_S = 30.0  # the service sends states every two seconds


def runs_in_service(target: Target) -> bool:
    """Whether a service is running that monitors the machine."""
    reply = request(target.control, {"do": "status"})
    return reply is not None and target.machine in reply.body.get("machines", {})


def learn_in_service(target: Target, command: dict[str, Any]) -> str:
    """Have the service learn the machine and return the result. UsageError if it refuses, SourceError if it fails.

    Learning goes on in the service if this process ends.
    """
    command = {**command, "request": f"monitor-learn-{secrets.token_hex(4)}"}
    opened = open_stream(target.control, {"do": "watch"}, timeout_s=SILENT_S)
    if opened is None:
        raise SourceError("the service has stopped")
    _, connection, rest = opened
    with closing(connection), logs_above_progress(), tqdm(unit="s", disable=None, leave=False) as bar:
        _order(target, command)
        problems = _Problems()
        log.info("the service learns %s; it goes on if this command is interrupted (--stop ends it)", target.machine)
        for line in _lines(connection, rest):
            data = line.get("data")
            if line.get("machine") != target.machine or data is None:
                continue
            if line["kind"] == "learning" and data["phase"] != "not_started":
                _show(bar, data)
                problems.update(data["problem"])
            elif line["kind"] == "response" and data["request"] == command["request"]:
                if data["reason"] is not None:
                    raise SourceError(printable(str(data["reason"])))
                if data["result"] is not None:
                    return printable(str(data["result"]))
    raise SourceError("the service has stopped; learning continues after its next start")


def stop_in_service(target: Target) -> None:
    """Stop the learning of the service; UsageError if it learns nothing, SourceError if no service runs."""
    if request(target.control, {"do": "status"}) is None:
        raise SourceError("no service runs, so nothing is being learned; interrupted learning continues when it starts")
    _order(target, {"stop": True})


def _order(target: Target, command: dict[str, Any]) -> None:
    """Send `learn` to the service; UsageError if it refuses."""
    body = {"do": "command", "machine": target.machine, "command": "learn", "payload": command}
    reply = request(target.control, body, timeout_s=ANSWER_S)
    if reply is None:
        raise SourceError("the service has stopped")
    response = reply.body["response"]
    if not response["accepted"]:
        raise UsageError(printable(str(response["reason"])))


class _Problems:
    """Logs why no usable sound arrives, once, also where no bar is shown."""

    def __init__(self) -> None:
        self._latest: str | None = None
        self._n_times = 0
        self._logged: str | None = None

    def update(self, problem: str | None) -> None:
        """Take the problem of the latest message. One of a few ticks is not worth a line."""
        self._n_times = self._n_times + 1 if problem == self._latest else 1
        self._latest = problem
        is_lasting = self._n_times >= LASTING or (problem or "").startswith("microphone_")
        if problem == self._logged or not is_lasting:
            return
        self._logged = problem
        if problem is None:
            log.info("sound resumed")
        else:
            trouble = problem.removeprefix("microphone_")
            words = f"the sound is unusable ({problem})" if trouble == problem else f"the microphone is {trouble}"
            log.warning("waiting: %s", printable("; ".join(filter(None, (words, REMEDIES.get(problem))))))


def _show(bar: "tqdm[Any]", data: dict[str, Any]) -> None:
    bar.total = round(data["wanted_s"])
    bar.set_description_str(str(data["phase"]), refresh=False)
    level = "" if data["rms_dbfs"] is None else f"{data['rms_dbfs']:.0f} dBFS"
    bar.set_postfix_str(level if data["problem"] is None else f"{level}, {printable(str(data['problem']))}", refresh=False)
    bar.update(round(data["done_s"]) - bar.n)


def _lines(connection: socket.socket, received: bytes) -> Iterator[dict[str, Any]]:
    """The lines of the stream until it ends or the service is silent."""
    with suppress(OSError, ValueError):
        yield from stream_lines(connection, received)
