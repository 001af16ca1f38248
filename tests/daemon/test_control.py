"""The control socket answers whoever asks properly, and survives whoever does not."""

import asyncio
import os
import select
import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from monitor.daemon import control
from monitor.daemon.control import ControlError, ControlServer, Handler, Reply, request
from monitor.errors import SourceError


def echo(request: dict[str, Any]) -> Reply:
    return Reply({"heard": request})


def refuse(_: dict[str, Any]) -> Reply:
    raise SourceError("no microphone is name:none")


def break_down(_: dict[str, Any]) -> Reply:
    raise RuntimeError("a bug")


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
def memory() -> Iterator[int]:
    fd = os.memfd_create("sound")
    os.write(fd, b"hum")
    yield fd
    os.close(fd)


@pytest.fixture
def server(tmp_path: Path, memory: int) -> Iterator[Running]:
    def lend(_: dict[str, Any]) -> Reply:
        return Reply({"rate_hz": 48_000}, (memory,))

    def much(_: dict[str, Any]) -> Reply:
        return Reply({"text": "x" * 3_000_000}, (memory,))

    running = Running(
        tmp_path / "run" / control.NAME, {"echo": echo, "refuse": refuse, "break": break_down, "lend": lend, "much": much}
    )
    yield running
    running.stop()


def raw(path: Path, data: bytes) -> bytes:
    """Send bytes, and hear whatever is said until the server hangs up."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        connection.sendall(data)
        said = b""
        try:
            while more := connection.recv(65_536):
                said += more
        except ConnectionResetError:
            pass  # it hung up before it had read all
        return said


def test_a_question_is_answered(server: Running) -> None:
    question = {"do": "echo", "microphone": "name:Blue"}
    assert request(server.path, question) == Reply({"heard": question})


def test_a_file_descriptor_comes_with_the_answer(server: Running, memory: int) -> None:
    reply = request(server.path, {"do": "lend"})
    assert reply is not None
    assert reply.body == {"rate_hz": 48_000}
    (fd,) = reply.fds
    assert fd != memory
    assert not os.get_inheritable(fd)
    assert os.pread(fd, 10, 0) == b"hum"
    os.close(fd)
    assert os.pread(memory, 10, 0) == b"hum"


def test_an_answer_may_be_longer_than_the_sockets_buffer(server: Running) -> None:
    reply = request(server.path, {"do": "much"})
    assert reply is not None
    assert len(reply.body["text"]) == 3_000_000
    os.close(reply.fds[0])


def test_a_refusal_is_one_line(server: Running) -> None:
    with pytest.raises(ControlError, match=r"^the service refuses: no microphone is name:none$"):
        request(server.path, {"do": "refuse"})
    with pytest.raises(ControlError, match=r"do must be one of echo, refuse, break, lend, much, got sing$"):
        request(server.path, {"do": "sing"})


@pytest.mark.parametrize(
    "line", [b"\n", b"null\n", b"[]\n", b'{"do": 1}\n', b'{"do": ["echo"]}\n', b"\xff\xfe\n", b"[" * 9_000 + b"\n"]
)
def test_garbage_is_refused(server: Running, line: bytes) -> None:
    assert raw(server.path, line).startswith(b'{"error": "')
    assert request(server.path, {"do": "echo"}) is not None


def test_a_huge_line_is_refused(server: Running) -> None:
    assert raw(server.path, b"x" * (control.MAX_LINE + 1) + b"\n").startswith(b'{"error": "a request must have at most 65536')
    assert request(server.path, {"do": "echo"}) is not None


def test_a_handler_that_breaks_harms_its_caller_alone(server: Running) -> None:
    with pytest.raises(ControlError, match=r"the service did not answer: it hung up$"):
        request(server.path, {"do": "break"})
    assert request(server.path, {"do": "echo"}) is not None


def test_clients_that_hang_hold_nobody_up_and_are_hung_up_on(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "TIMEOUT_S", 3.0)
    hanging = [socket.socket(socket.AF_UNIX) for _ in range(control.MAX_CLIENTS - 1)]
    for connection in hanging:
        connection.connect(str(server.path))
        connection.sendall(b'{"do": ')
    assert request(server.path, {"do": "echo"}) is not None
    assert select.select(hanging, [], [], 0)[0] == []  # they wait still
    for connection in hanging:
        connection.settimeout(20)
        assert connection.recv(1) == b""
        connection.close()


def test_too_many_clients_are_refused(server: Running) -> None:
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(control.MAX_CLIENTS)]
    for connection in waiting:
        connection.connect(str(server.path))
    with pytest.raises(ControlError, match="at most 16 may ask at once"):
        request(server.path, {"do": "echo"})
    for connection in waiting:
        connection.close()


def test_a_client_that_leaves_is_not_missed(server: Running) -> None:
    for _ in range(control.MAX_CLIENTS - 1):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(server.path))
            connection.sendall(b'{"do": "much"}\n')
    assert request(server.path, {"do": "echo"}) is not None


def test_without_a_service_there_is_no_answer(tmp_path: Path) -> None:
    assert request(tmp_path / "none" / control.NAME, {"do": "status"}) is None


def test_a_service_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / control.NAME
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert request(path, {"do": "echo"}) is None
    running = Running(path, {"echo": echo})
    assert request(path, {"do": "echo"}) is not None
    running.stop()
    assert not path.exists()


def test_a_second_service_is_refused_and_the_first_stays(server: Running) -> None:
    with pytest.raises(ControlError, match="another service answers here; stop it first") as raised:
        Running(server.path, {"echo": refuse})
    assert "\n" not in str(raised.value)
    assert request(server.path, {"do": "echo"}) is not None


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / control.NAME).write_text("a letter")
    with pytest.raises(ControlError, match="cannot be made: Address already in use"):
        Running(tmp_path / control.NAME, {})
    assert (tmp_path / control.NAME).read_text() == "a letter"


def test_a_path_that_no_socket_can_have_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120) / control.NAME
    for attempt in (lambda: request(path, {"do": "status"}), lambda: Running(path, {})):
        with pytest.raises(ControlError, match=r"path too long$"):
            attempt()


def test_the_socket_is_for_its_owner_and_group(server: Running) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o660


def test_a_service_that_does_not_answer_is_said(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / control.NAME))
        mute.listen()
        with pytest.raises(ControlError, match="the service did not answer: timed out"):
            request(tmp_path / control.NAME, {"do": "status"}, timeout_s=0.3)
