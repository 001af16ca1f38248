"""The control socket answers valid requests, streams, and survives every other client."""

import asyncio
import itertools
import json
import os
import resource
import select
import socket
import stat
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from monitor.daemon.control import socket as control
from monitor.daemon.control.socket import ControlError, ControlServer, Handler, Reply, open_stream, request
from monitor.errors import SourceError
from tests.waiting import wait_until


def echo(request: dict[str, Any]) -> Reply:
    return Reply({"request": request})


def refuse(_: dict[str, Any]) -> Reply:
    raise SourceError("no microphone matches name:none")


def break_down(_: dict[str, Any]) -> Reply:
    raise RuntimeError("a bug")


class Streams:
    """Streams of `n` numbered kilobytes, or endless ones; a text for `n` is a bug."""

    def __init__(self) -> None:
        self.n_open = 0
        self.n_items = 0

    def reply(self, request: dict[str, Any]) -> Reply:
        return Reply({"rate_hz": 48_000}, self._items(request.get("n")))

    async def _items(self, n: int | str | None) -> AsyncGenerator[bytes, None]:
        if isinstance(n, str):
            raise TypeError("a bug")
        self.n_open += 1
        try:
            for number in itertools.count():
                if number == n:
                    return
                self.n_items += 1
                yield number.to_bytes(4, "big") * 256
                await asyncio.sleep(0)
        finally:
            self.n_open -= 1


class Running:
    """A server in a loop of its own, as in the daemon."""

    def __init__(self, path: Path, handlers: dict[str, Handler]) -> None:
        self.path = path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = ControlServer(path, handlers)
        try:
            self._do(self._server.start()).result(10)
        except ControlError:
            self._end()
            raise

    @property
    def server(self) -> ControlServer:
        return self._server

    def stop(self) -> None:
        self._do(self._server.stop()).result(10)
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> "Future[None]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
def server(tmp_path: Path, streams: Streams) -> Iterator[Running]:
    def much(request: dict[str, Any]) -> Reply:
        return Reply({"text": "x" * request.get("n", 3_000_000)})

    running = Running(
        tmp_path / "run" / control.NAME,
        {"echo": echo, "refuse": refuse, "break": break_down, "much": much, "stream": streams.reply},
    )
    yield running
    running.stop()


def raw(path: Path, data: bytes) -> bytes:
    """Send bytes; returns what the server sends until it disconnects."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        connection.sendall(data)
        received = b""
        try:
            while more := connection.recv(65_536):
                received += more
        except ConnectionResetError:
            pass  # it disconnected before it had read everything
        return received


def test_a_request_is_answered(server: Running) -> None:
    question = {"do": "echo", "microphone": "name:Blue"}
    assert request(server.path, question) == Reply({"request": question})


def test_a_stream_follows_the_answer_until_its_end(server: Running, streams: Streams) -> None:
    received = raw(server.path, b'{"do": "stream", "n": 3000}\n')
    line, _, data = received.partition(b"\n")
    assert json.loads(line) == {"rate_hz": 48_000}
    assert data == b"".join(number.to_bytes(4, "big") * 256 for number in range(3000))
    wait_until(lambda: streams.n_open == 0)


def opened(path: Path) -> socket.socket:
    """A client of an endless stream, which has received its beginning."""
    stream = open_stream(path, {"do": "stream"})
    assert stream is not None
    return stream[1]


def test_a_client_that_reads_slowly_holds_up_its_own_stream_only(server: Running, streams: Streams) -> None:
    with opened(server.path):
        wait_until(lambda: is_steady(lambda: streams.n_items))
        assert streams.n_items < 2_000  # the socket's buffers, not memory without bound
        assert request(server.path, {"do": "echo"}) is not None


def is_steady(value: Callable[[], int]) -> bool:
    """Whether a value did not change for a while."""
    before = value()
    time.sleep(0.3)
    return value() == before


def test_a_client_that_does_not_read_is_disconnected_with_one_line(
    server: Running, streams: Streams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "STREAM_TIMEOUT_S", 0.5)
    with opened(server.path):
        wait_until(lambda: streams.n_open == 1)
        wait_until(lambda: streams.n_open == 0)
    assert caplog.messages == ["control socket: disconnected a client that did not read its stream for 0 s"]
    assert server.server.n_failed == 0


def test_a_client_that_vanishes_ends_its_stream(server: Running, streams: Streams, caplog: pytest.LogCaptureFixture) -> None:
    connection = opened(server.path)
    wait_until(lambda: streams.n_open == 1)
    connection.close()
    wait_until(lambda: streams.n_open == 0)
    assert caplog.messages == []


def test_a_stream_that_fails_is_logged_counted_and_ends(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    assert json.loads(raw(server.path, b'{"do": "stream", "n": "none"}\n')) == {"rate_hz": 48_000}
    wait_until(lambda: server.server.n_failed == 1)
    assert caplog.messages == ["control socket: unexpected error"]
    assert request(server.path, {"do": "echo"}) is not None


def test_the_number_of_streams_is_bounded(server: Running, streams: Streams) -> None:
    connections = [opened(server.path) for _ in range(control.MAX_STREAMS)]
    with pytest.raises(ControlError, match=f"refused by the service: at most {control.MAX_STREAMS} streams can be open at once"):
        open_stream(server.path, {"do": "stream"})
    assert request(server.path, {"do": "echo"}) is not None
    for connection in connections:
        connection.close()
    wait_until(lambda: streams.n_open == 0)
    opened(server.path).close()


def test_a_server_that_stops_ends_its_streams(tmp_path: Path, streams: Streams) -> None:
    running = Running(tmp_path / control.NAME, {"stream": streams.reply})
    with opened(running.path) as connection:
        wait_until(lambda: streams.n_open == 1)
        running.stop()
        connection.settimeout(10)
        with suppress(ConnectionResetError):
            while connection.recv(65_536):
                pass
    assert not running.server.is_alive


def test_an_answer_may_be_longer_than_the_sockets_buffer(server: Running) -> None:
    reply = request(server.path, {"do": "much"})
    assert reply is not None
    assert len(reply.body["text"]) == 3_000_000


@pytest.mark.parametrize("n_bytes", range(200_000, 300_000, 10_000))
def test_an_answer_whose_end_is_sent_after_the_servers_close_is_no_failure(
    n_bytes: int, server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """It is longer than the socket's buffer, but not so long that the server waits for the client."""
    assert len(raw(server.path, b'{"do": "much", "n": %d}\n' % n_bytes)) == n_bytes + len('{"text": ""}\n')
    assert request(server.path, {"do": "echo"}) is not None
    assert caplog.messages == []
    assert server.server.n_failed == 0


def test_a_refusal_is_one_line(server: Running) -> None:
    with pytest.raises(ControlError, match=r"^refused by the service: no microphone matches name:none$"):
        request(server.path, {"do": "refuse"})
    with pytest.raises(ControlError, match=r"do must be one of echo, refuse, break, much, stream, got sing$"):
        request(server.path, {"do": "sing"})


@pytest.mark.parametrize(
    "line",
    [
        *(b"\n", b"null\n", b"[]\n", b'{"do": 1}\n', b'{"do": ["echo"]}\n', b"\xff\xfe\n", b"[" * 9_000 + b"\n"),
        *(
            b'{"do": "\\ud800"}\n',
            b'{"do": "echo", "x": NaN}\n',
            b'{"do": "echo", "x": 1e999}\n',
            b'{"do": "\\u0000\\u001b[2J"}\n',
        ),
    ],
)
def test_garbage_is_refused(server: Running, line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    answer = raw(server.path, line)
    assert answer.startswith(b'{"error": "')
    assert json.loads(answer)["error"].isprintable()
    assert request(server.path, {"do": "echo"}) is not None
    assert (caplog.messages, server.server.n_failed) == ([], 0)


def test_text_that_is_no_unicode_is_returned_as_json(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    assert json.loads(raw(server.path, b'{"do": "echo", "x": "\\ud800"}\n'))["request"]["x"] == "\ud800"
    assert (caplog.messages, server.server.n_failed) == ([], 0)


def test_a_huge_line_is_refused(server: Running) -> None:
    assert raw(server.path, b"x" * (control.MAX_LINE + 1) + b"\n").startswith(b'{"error": "a request must have at most 65536')
    assert request(server.path, {"do": "echo"}) is not None


def test_a_handler_that_fails_affects_its_caller_only(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ControlError, match=r"^refused by the service: internal error; see the service's log$"):
        request(server.path, {"do": "break"})
    assert caplog.messages == ["control socket: unexpected error in break"]
    assert request(server.path, {"do": "echo"}) is not None
    assert (server.server.is_alive, server.server.n_failed, server.server.advanced()) == (True, 1, 2)


def test_clients_that_hang_block_nobody_and_are_disconnected(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "TIMEOUT_S", 3.0)
    hanging = [socket.socket(socket.AF_UNIX) for _ in range(control.MAX_CLIENTS - 1)]
    for connection in hanging:
        connection.connect(str(server.path))
        connection.sendall(b'{"do": ')
    assert request(server.path, {"do": "echo"}) is not None
    assert select.select(hanging, [], [], 0)[0] == []  # still connected
    for connection in hanging:
        connection.settimeout(20)
        assert connection.recv(1) == b""
        connection.close()


def test_too_many_clients_are_refused(server: Running) -> None:
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(control.MAX_CLIENTS)]
    for connection in waiting:
        connection.connect(str(server.path))
    for much in ("", "x" * 5_000_000):  # the second is refused, and its connection closed, while it is sent
        with pytest.raises(ControlError, match=r"^refused by the service: at most 16 clients can connect at once$"):
            request(server.path, {"do": "echo", "much": much})
    for connection in waiting:
        connection.close()


def test_a_flood_of_clients_is_refused_without_a_line_each(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(control.MAX_CLIENTS)]
    for connection in waiting:
        connection.connect(str(server.path))
    ends = time.monotonic() + 3.0
    n_refused = 0
    while time.monotonic() < ends:
        with pytest.raises(ControlError, match="at most 16"):
            request(server.path, {"do": "echo"})
        n_refused += 1
    assert n_refused > 10
    assert caplog.messages == []
    for connection in waiting:
        connection.close()
    wait_until(lambda: is_answered(server.path))


def is_answered(path: Path) -> bool:
    try:
        return request(path, {"do": "echo"}) is not None
    except ControlError:
        return False


def test_without_descriptors_clients_wait_and_one_line_a_second_is_logged(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio's own server logged 10,000 tracebacks in 10 s."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(path.name) for path in Path("/proc/self/fd").iterdir()), hard))
    try:
        filler = [os.open("/", os.O_RDONLY) for _ in range(soft) if has_descriptors()]
        for connection in connections:
            connection.connect(str(server.path))
        time.sleep(2.5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for fd in filler:
        os.close(fd)
    assert 1 <= len(caplog.messages) <= 4
    assert set(caplog.messages) == {"control socket: cannot accept clients: Too many open files"}
    assert all(record.exc_info is None for record in caplog.records)
    for connection in connections:
        connection.sendall(b'{"do": "echo"}\n')
        connection.settimeout(10)
        assert b"request" in connection.recv(1000)
        connection.close()


def has_descriptors() -> bool:
    try:
        os.close(os.open("/", os.O_RDONLY))
    except OSError:
        return False
    return True


def test_clients_that_leave_without_reading_are_harmless(server: Running) -> None:
    for _ in range(control.MAX_CLIENTS - 1):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(server.path))
            connection.sendall(b'{"do": "much"}\n')
    assert request(server.path, {"do": "echo"}) is not None


def test_without_a_service_there_is_no_answer(tmp_path: Path) -> None:
    assert request(tmp_path / "none" / control.NAME, {"do": "status"}) is None


def test_the_socket_of_a_killed_service_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / control.NAME
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert request(path, {"do": "echo"}) is None
    running = Running(path, {"echo": echo})
    assert request(path, {"do": "echo"}) is not None
    running.stop()
    assert not path.exists()


def test_a_second_service_is_refused_and_the_first_stays(server: Running) -> None:
    with pytest.raises(ControlError, match="another service uses it; stop it first") as raised:
        Running(server.path, {"echo": refuse})
    assert "\n" not in str(raised.value)
    assert request(server.path, {"do": "echo"}) is not None


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / control.NAME).write_text("a letter")
    with pytest.raises(ControlError, match="cannot be created: Address already in use"):
        Running(tmp_path / control.NAME, {})
    assert (tmp_path / control.NAME).read_text() == "a letter"


def test_an_overlong_path_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120) / control.NAME
    for attempt in (lambda: request(path, {"do": "status"}), lambda: Running(path, {})):
        with pytest.raises(ControlError, match=r"path too long$"):
            attempt()


def test_the_socket_is_accessible_to_its_owner_and_group(server: Running) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o660


def test_a_service_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / control.NAME))
        mute.listen()
        with pytest.raises(ControlError, match="no answer from the service: timed out"):
            request(tmp_path / control.NAME, {"do": "status"}, timeout_s=0.3)
