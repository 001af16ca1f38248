"""The control socket: tools ask the running service, which answers; one JSON line each way.

A request says what to do, `{"do": "status"}`, and what that needs. An answer is an object, with file descriptors where that
is what was asked for; `{"error": "one line"}` is a refusal. Who may connect is a matter of the socket's mode and folder.
"""

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.errors import StethosError
from monitor.files import lock
from monitor.json_lines import to_json

NAME = "control.sock"  # in the runtime directory
MODE = 0o660
MAX_LINE = 1 << 16
MAX_CLIENTS = 16
MAX_FDS = 4
TIMEOUT_S = 5.0


class ControlError(StethosError):
    """The service cannot be asked, or refuses."""


@dataclass(frozen=True)
class Reply:
    """An answer. The server leaves `fds` open; who receives them owns copies."""

    body: dict[str, Any]
    fds: tuple[int, ...] = ()


Handler = Callable[[dict[str, Any]], Reply]  # called in the loop, so it must be quick; a StethosError is a refusal


class ControlServer:
    """Answers on the socket at `path`, in the running event loop; a client that hangs or sends garbage harms nobody."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self.path = path
        self._handlers = handlers
        self._lock: int | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; ControlError where another service does, or where the socket cannot be made."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self.path.with_suffix(".lock"))
            listener = _bind(self.path)
        except BlockingIOError as error:
            raise ControlError(f"{self.path}: another service answers here; stop it first (systemctl stop stethos)") from error
        except OSError as error:
            raise ControlError(f"{self.path}: cannot be made: {error.strerror or error}") from error
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE)

    async def stop(self) -> None:
        """Hang up on everybody and remove the socket."""
        if self._server is not None:
            self._server.close()
            for client in list(self._clients):
                client.close()
            self.path.unlink(missing_ok=True)
            self._server = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_CLIENTS:
            writer.write(_line(_refusal(f"at most {MAX_CLIENTS} may ask at once")))
            writer.close()
            return
        self._clients.add(writer)
        try:
            await asyncio.wait_for(self._converse(reader, writer), TIMEOUT_S)
        except (asyncio.TimeoutError, ConnectionError):
            writer.transport.abort()  # it hangs, or has gone: its loss
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reply = self._answer(await reader.readline())
        except ValueError:  # what StreamReader makes of a line above its limit
            reply = _refusal(f"a request must have at most {MAX_LINE} bytes, got more")
        line = _line(reply)
        if reply.fds:
            line = line[_send_fds(writer, line, reply.fds) :]
        writer.write(line)
        await writer.drain()

    def _answer(self, line: bytes) -> Reply:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return _refusal("a request must be one line of JSON, got something else")
        do = request.get("do") if isinstance(request, dict) else None
        handler = self._handlers.get(do) if isinstance(do, str) else None
        if handler is None:
            return _refusal(f"do must be one of {', '.join(self._handlers)}, got {str(do)[:40]}")
        try:
            return handler(request)
        except StethosError as error:
            return _refusal(str(error))


def request(path: Path, request: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> Reply | None:
    """What the service at `path` answers, None where none runs; ControlError where it refuses or cannot be asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):  # never started; or killed, which leaves the socket behind
            return None
        except PermissionError as error:
            raise ControlError(f"{path}: this user must not ask the service; use sudo") from error
        except OSError as error:
            raise ControlError(f"{path}: cannot be asked: {error.strerror or error}") from error
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            reply = _receive(connection)
        except (OSError, ValueError) as error:
            raise ControlError(f"{path}: the service did not answer: {error}") from error
    if "error" in reply.body:
        raise ControlError(f"the service refuses: {reply.body['error']}")
    return reply


def _receive(connection: socket.socket) -> Reply:
    line, fds, _, _ = socket.recv_fds(connection, MAX_LINE, MAX_FDS)
    for fd in fds:
        os.set_inheritable(fd, False)
    try:
        while not line.endswith(b"\n"):
            more = connection.recv(MAX_LINE)
            if not more:
                raise ValueError("it hung up")
            line += more
        return Reply(json.loads(line), tuple(fds))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _send_fds(writer: asyncio.StreamWriter, line: bytes, fds: tuple[int, ...]) -> int:
    """Send descriptors with the line's beginning; returns its length. The transport has sent nothing yet."""
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as connection:
        return socket.send_fds(connection, [line[:1]], list(fds))


def _bind(path: Path) -> socket.socket:
    """A socket at `path`, in place of one that a killed service left; nobody else's before its mode is set."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        path.chmod(MODE)
    except OSError:
        listener.close()
        raise
    return listener


def _line(reply: Reply) -> bytes:
    return to_json(reply.body).encode() + b"\n"


def _refusal(text: str) -> Reply:
    return Reply({"error": text})
