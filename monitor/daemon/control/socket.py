"""The control socket: a tool sends one JSON line to the running service, and receives one JSON line or a stream of bytes.

A request is an object with an action and its arguments, such as `{"do": "status"}`. The reply is an object, too;
`{"error": "one line"}` means that the request was refused. If the action is a stream, bytes follow the reply until either side
closes the connection. The socket's mode and directory determine who may connect. docs/control.md describes the requests.
"""

import asyncio
import json
import logging
import math
import os
import socket
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.errors import StethosError
from monitor.files import lock
from monitor.json_lines import to_json
from monitor.log_limit import of_kind

log = logging.getLogger(__name__)
NAME = "control.sock"  # in the runtime directory
MODE = 0o660
MAX_LINE = 1 << 16
MAX_CLIENTS = 16
MAX_STREAMS = 8  # how many of the clients may stream
TIMEOUT_S = 5.0
ANSWER_S = 60.0  # for a handler that reads files or waits for a child process
STREAM_TIMEOUT_S = 30.0  # a client that reads nothing for this long is disconnected
NEXT_CLIENT_S = 0.005  # a flood of clients must not keep the machines waiting
ACCEPT_AGAIN_S = 1.0  # after an error such as too many open files
MAX_REPLY = 16_000_000  # bytes that a tool accepts
REFUSED = "refused by the service: "  # begins the message of a ControlError that passes on the service's own


class ControlError(StethosError):
    """The service cannot be reached, or refuses the request."""


@dataclass(frozen=True)
class Reply:
    """A reply, and the stream that follows it, if any."""

    body: dict[str, Any]
    stream: AsyncGenerator[bytes, None] | None = None  # must not block the event loop
    text: str | None = None  # the body as JSON, if another thread has written it already
    is_file: bool = False  # the stream is short and does not count as one


# Called in the event loop, so it must be quick, or return an awaitable. StethosError refuses the request.
Handler = Callable[[dict[str, Any]], Reply | Awaitable[Reply]]


class ControlServer:
    """Serves the socket at `path` in the running event loop. A client that hangs or sends garbage does not affect others.

    A watchdog can check `is_alive` and `advanced()`.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self.path = path
        self.n_failed = 0  # requests and streams that ended with an unexpected exception
        self._handlers = handlers
        self._lock: int | None = None
        self._listener: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._n_requests = self._n_streams = 0

    async def start(self) -> None:
        """Start listening; ControlError if another service uses the socket, or if it cannot be created."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self.path.with_suffix(".lock"))
            listener = _bind(self.path)
        except BlockingIOError as error:
            raise ControlError(f"{self.path}: another service uses it; stop it first (systemctl stop stethos)") from error
        except OSError as error:
            raise ControlError(f"{self.path}: cannot be created: {error.strerror or error}") from error
        self._listener = asyncio.create_task(self._listen(listener))

    async def stop(self) -> None:
        """Disconnect all clients and remove the socket."""
        if self._listener is not None:
            tasks = (self._listener, *self._clients)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.path.unlink(missing_ok=True)
            self._listener = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def is_alive(self) -> bool:
        """Whether the socket accepts clients."""
        return self._listener is not None and not self._listener.done()

    def advanced(self) -> int:
        """The number of requests so far, answered or refused."""
        return self._n_requests

    async def _listen(self, listener: socket.socket) -> None:
        """Accept clients one by one. asyncio's server accepts a hundred at a time and logs a traceback for each that fails."""
        with listener:
            while True:
                try:
                    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                except OSError as error:
                    log.warning("control socket: cannot accept clients: %s", error.strerror, extra=of_kind("accept"))
                    await asyncio.sleep(ACCEPT_AGAIN_S)
                    continue
                if len(self._clients) < MAX_CLIENTS:
                    client = asyncio.create_task(self._serve(connection))
                    self._clients.add(client)
                    client.add_done_callback(self._clients.discard)
                else:
                    with connection, suppress(OSError):
                        connection.send(_line(_refusal(f"at most {MAX_CLIENTS} clients can connect at once")))
                await asyncio.sleep(NEXT_CLIENT_S)

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE)
                try:
                    reply = await self._reply(reader, writer)
                    if reply.stream is not None:
                        await self._send(reply.stream, reader, writer, is_counted=not reply.is_file)
                    writer.close()
                    await asyncio.wait_for(writer.wait_closed(), TIMEOUT_S)  # sends what the client has not read yet
                finally:
                    _drop(writer)
            except (asyncio.TimeoutError, ConnectionError):
                pass  # the client hangs or is gone
            except Exception:
                self.n_failed += 1
                log.exception("control socket: unexpected error", extra=of_kind("unexpected"))

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Reply:
        try:
            line = await asyncio.wait_for(reader.readline(), TIMEOUT_S)
            reply = await asyncio.wait_for(self._answer(line), ANSWER_S)
        except ValueError:  # a line above the limit
            reply = _refusal(f"a request must have at most {MAX_LINE} bytes, got more")
        self._n_requests += 1
        if reply.stream is not None and not reply.is_file and self._n_streams >= MAX_STREAMS:
            reply = _refusal(f"at most {MAX_STREAMS} streams can be open at once")
        writer.write(_line(reply))
        await asyncio.wait_for(writer.drain(), TIMEOUT_S)
        return reply

    async def _send(
        self,
        stream: AsyncGenerator[bytes, None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_counted: bool,
    ) -> None:
        """Send a stream as fast as the client reads it, until it ends, or the client closes its side or stops reading."""
        n_sent = 0

        async def write() -> None:
            nonlocal n_sent
            async for data in stream:
                writer.write(data)
                await writer.drain()
                n_sent += 1

        self._n_streams += is_counted
        sending, closing = asyncio.ensure_future(write()), asyncio.ensure_future(reader.read(1))
        try:
            n_before = -1
            while n_sent > n_before or not writer.transport.get_write_buffer_size():
                n_before = n_sent
                done, _ = await asyncio.wait((sending, closing), timeout=STREAM_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    if sending.done():
                        sending.result()
                    return
            log.warning("control socket: disconnected a client that did not read its stream for %.0f s", STREAM_TIMEOUT_S)
            writer.transport.abort()
        finally:
            self._n_streams -= is_counted
            sending.cancel()
            closing.cancel()
            await asyncio.gather(sending, closing, return_exceptions=True)
            await stream.aclose()

    async def _answer(self, line: bytes) -> Reply:
        try:
            request = json.loads(line, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError):
            return _refusal("a request must be one line of JSON")
        do = request.get("do") if isinstance(request, dict) else None
        handler = self._handlers.get(do) if isinstance(do, str) else None
        if handler is None:
            return _refusal(f"do must be one of {', '.join(self._handlers)}, got {printable(str(do))[:40]}")
        try:
            reply = handler(request)
            return reply if isinstance(reply, Reply) else await reply
        except StethosError as error:
            return _refusal(str(error))
        except Exception:
            self.n_failed += 1
            log.exception("control socket: unexpected error in %s", do, extra=of_kind("unexpected"))
            return _refusal("internal error; see the service's log")


def request(path: Path, request: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> Reply | None:
    """The reply of the service at `path`; None if none is running. ControlError if it refuses or cannot be reached."""
    opened = open_stream(path, request, timeout_s=timeout_s)
    if opened is None:
        return None
    body, connection, _ = opened
    connection.close()
    return Reply(body)


def open_stream(
    path: Path, request: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S
) -> tuple[dict[str, Any], socket.socket, bytes] | None:
    """Like `request`, but return the reply, the connection (closed by the caller) and the bytes received from the stream."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):  # never started, or killed, leaving the socket behind
            connection.close()
            return None
        except PermissionError as error:
            raise ControlError(f"{path}: this user may not access the service; use sudo") from error
        except OSError as error:
            raise ControlError(f"{path}: cannot connect: {error.strerror or error}") from error
        try:
            with suppress(BrokenPipeError):  # it refused, and closed, before it was asked
                connection.sendall(json.dumps(request).encode() + b"\n")
            line, rest = _receive_line(connection)
            body = json.loads(line)
        except (OSError, ValueError, RecursionError) as error:
            raise ControlError(f"{path}: no answer from the service: {error}") from error
        if not isinstance(body, dict):
            raise ControlError(f"{path}: the answer of the service must be a JSON object")
        if "error" in body:
            raise ControlError(f"{REFUSED}{printable(str(body['error']))}")
    except BaseException:
        connection.close()
        raise
    return body, connection, rest


def stream_lines(connection: socket.socket, received: bytes) -> Iterator[dict[str, Any]]:
    """The lines of a stream that `open_stream` began, until it ends. TimeoutError as the connection's timeout says."""
    rest = received
    while len(rest) <= MAX_REPLY:
        *lines, rest = rest.split(b"\n")
        yield from map(json.loads, lines)
        data = connection.recv(MAX_LINE)
        if not data:
            return
        rest += data


def _receive_line(connection: socket.socket) -> tuple[bytes, bytes]:
    """The first line, and the bytes received after it."""
    received = bytearray()
    while b"\n" not in received:
        data = connection.recv(MAX_LINE)
        if not data:
            raise ValueError("connection closed")
        if len(received) > MAX_REPLY:
            raise ValueError(f"it must have at most {MAX_REPLY} bytes")
        received += data
    line, _, rest = bytes(received).partition(b"\n")
    return line, rest


def _bind(path: Path) -> socket.socket:
    """Create a socket at `path`, replacing one left by a killed service. Others have no access until its mode is set."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        listener.listen(MAX_CLIENTS)
        listener.setblocking(False)
        path.chmod(MODE)
    except OSError:
        listener.close()
        raise
    return listener


def _drop(writer: asyncio.StreamWriter) -> None:
    """Close a connection at once, whatever the client has not read. asyncio's `abort` may fail on one that has ended."""
    if writer.transport.get_write_buffer_size():
        writer.transport.abort()
    else:
        writer.close()


def _line(reply: Reply) -> bytes:
    text = to_json(reply.body) if reply.text is None else reply.text
    return text.encode("utf-8", "backslashreplace") + b"\n"


def printable(text: str) -> str:
    """The text with a question mark in place of each character that cannot be printed."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not a number in JSON")
    return value


def _refusal(text: str) -> Reply:
    return Reply({"error": text})
