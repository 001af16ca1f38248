"""A TCP proxy on loopback that can turn into a bad network: packets that vanish without a word, or nobody there."""

import socket
import threading
import time
from contextlib import suppress
from typing import Literal

Weather = Literal["fair", "slow", "swallows", "refuses"]
SLOW = 40_000  # bytes a second


class Proxy:
    """Forwards to a port of this computer.

    `slow`: a few bytes at a time; `swallows`: connections stand and nothing gets through; `refuses`: they are cut.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._weather: Weather = "fair"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener: socket.socket | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._listen()

    def become(self, weather: Weather) -> None:
        """Change for present and future connections; what was swallowed stays lost, and such a connection never recovers."""
        self._weather = weather
        if weather == "refuses":
            self._hang_up()
        elif self._listener is None:
            self._listen()

    def close(self) -> None:
        self._hang_up()

    def _hang_up(self) -> None:
        sockets = [end for pair in self._pairs for end in pair]
        listener, self._listener = self._listener, None
        for each in [*sockets, *([listener] if listener else [])]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._pairs.clear()

    def _listen(self) -> None:
        self._listener = listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)  # what waits, waits at the sender
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket()
            if self._weather in ("fair", "slow") and far.connect_ex(("127.0.0.1", self._target)) != 0:
                near.close()
                continue
            self._pairs.append((near, far))
            threading.Thread(target=self._pump, args=[near, far], daemon=True).start()
            threading.Thread(target=self._pump, args=[far, near], daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        swallowed = False
        with suppress(OSError):
            while data := source.recv(1_024 if self._weather == "slow" else 65_536):
                if self._weather == "slow":
                    time.sleep(len(data) / SLOW)
                swallowed = swallowed or self._weather == "swallows"
                if not swallowed:
                    sink.sendall(data)
        while self._weather == "swallows":  # nor does anybody hear that it ended
            time.sleep(0.05)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
