"""A broker of MQTT 5 on loopback that answers as a test tells it: it refuses, stays silent or hangs up."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

NOT_AUTHORIZED = 0x87
Reply = Callable[[str, int], int | None]


class FakeBroker:
    """Acknowledges PUBLISH packets with the reason code that `reply(topic, number)` returns; None ends the connection.

    `number` counts the packets of QoS 1 of that topic over all connections, from 0. A test may change `reply` and `connack`.
    """

    def __init__(self, reply: Reply, *, connack: bytes = bytes([0x20, 3, 0, 0, 0])) -> None:
        self.n_connections = 0
        self._connection: socket.socket | None = None
        self.received: list[tuple[str, bytes]] = []
        self.reply = reply
        self.connack = connack
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "FakeBroker":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def hang_up(self) -> None:
        """End the present connection."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connection = connection
                self.n_connections += 1
                with connection, suppress(OSError, EOFError):
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while True:
            kind, body = _packet(stream.read)
            if kind >> 4 == 1:
                connection.sendall(self.connack)
            elif kind >> 4 == 8:
                connection.sendall(bytes([0x90, 4, *body[:2], 0, 1]))
            elif kind >> 4 == 12:
                connection.sendall(bytes([0xD0, 0]))
            elif kind >> 4 == 3:
                topic_end = 2 + int.from_bytes(body[:2], "big")
                topic = body[2:topic_end].decode()
                if kind & 0x06 == 0:
                    continue
                number = sum(topic == other for other, _ in self.received)
                self.received.append((topic, body[topic_end + 3 :]))
                code = self.reply(topic, number)
                if code is None:
                    return
                connection.sendall(bytes([0x40, 4, *body[topic_end : topic_end + 2], code, 0]))


def _packet(read: Callable[[int], bytes]) -> tuple[int, bytes]:
    """The first byte and the body of the next packet."""
    kind = _byte(read)
    length = shift = 0
    while True:
        byte = _byte(read)
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return kind, read(length)


def _byte(read: Callable[[int], bytes]) -> int:
    data = read(1)
    if not data:
        raise EOFError
    return data[0]
