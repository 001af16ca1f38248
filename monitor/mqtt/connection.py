"""The connection to the broker, on a thread of its own: made, lost and made again for ever, one log line a change."""

import logging
import random
import socket
import threading
import time
from contextlib import suppress
from typing import Protocol

from monitor.config import MqttConfig
from monitor.errors import SinkError
from monitor.mqtt.session import Acknowledged, Received, Session

log = logging.getLogger(__name__)
TURN_S = 1.0
STEADY_S = 10.0  # a connection that lasted longer was a good one: the next attempt comes soon


class Traffic(Protocol):
    """What goes over the connection; called on its thread, must not block."""

    def connected(self, session: Session) -> None:
        """A new connection, `status` being published; nothing sent over an older one will be acknowledged any more."""

    def turn(self, session: Session) -> None:
        """Publish what waits; called after `wake` and at least once a second while connected."""

    def acknowledged(self, answer: Acknowledged) -> None:
        """The broker has answered a message of QoS 1."""

    def received(self, message: Received) -> None:
        """A message of a subscribed topic."""

    def lost(self) -> None:
        """The connection, or an attempt to make one, has ended; Connection.problem says why."""


class Connection:
    """Keeps one session with the broker. `<prefix>/<node>/status` is online while it lasts and offline afterwards."""

    def __init__(self, config: MqttConfig, *, node: str, traffic: Traffic, says_first_failure: bool = True) -> None:
        self.where = f"{config.host}:{config.port}"
        self.base = f"{config.prefix}/{node}"
        self.problem: str | None = None  # why there is no connection; None before the first attempt and while connected
        self.is_connected = False
        self.n_connections = 0
        self._config = config
        self._client_id = config.client_id or f"stethos-{node}"
        self._traffic = traffic
        self._is_quiet = not says_first_failure
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._heard, self._wakeup = socket.socketpair()
        self._heard.setblocking(False)
        self._wakeup.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def wake(self) -> None:
        """Let the traffic publish now; from any thread, never blocks."""
        with suppress(OSError):  # woken already, or closed
            self._wakeup.send(b"\0")

    def close(self, *, timeout_s: float) -> None:
        """Say `offline`, disconnect and end the thread, within `timeout_s`."""
        self._deadline = time.monotonic() + timeout_s
        self._closing.set()
        self.wake()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._heard.close()
            self._wakeup.close()

    def _run(self) -> None:
        delay_s = self._config.reconnect_min_s
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._session()
            except SinkError as error:
                self._tell(str(error))
            except Exception as error:
                log.exception("mqtt: %s sends what cannot be understood", self.where)
                self._tell(f"sends what cannot be understood: {error}")
            self.is_connected = False
            self._traffic.lost()
            if time.monotonic() - began > STEADY_S:
                delay_s = self._config.reconnect_min_s
            self._closing.wait(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(2 * delay_s, self._config.reconnect_max_s)

    def _session(self) -> None:
        """One connection from its beginning to its end; returns when it was closed as asked."""
        status = f"{self.base}/status"
        session = Session(self._config, client_id=self._client_id, will=(status, "offline"))
        try:
            session.open()
            while not session.accepted:
                self._turn(session)
                if self._closing.is_set():
                    return
            session.publish(status, "online", qos=1, retain=True)
            self._tell(None)
            self._traffic.connected(session)
            while not self._closing.is_set():
                self._traffic.turn(session)
                self._turn(session)
            session.publish(status, "offline", qos=1, retain=True)
            while session.unacknowledged and time.monotonic() < self._deadline:
                self._turn(session)
            session.close()
        finally:
            session.abandon()

    def _turn(self, session: Session) -> None:
        acknowledged, received = session.turn(min(TURN_S, max(0.0, self._deadline - time.monotonic())), self._heard)
        with suppress(BlockingIOError):
            self._heard.recv(4096)
        for answer in acknowledged:
            self._traffic.acknowledged(answer)
        for message in received:
            self._traffic.received(message)

    def _tell(self, problem: str | None) -> None:
        """Log how things are where that has changed."""
        if problem is None:
            self.n_connections += 1
            log.info("mqtt: connected to %s", self.where)
        elif problem != self.problem and (self.n_connections or not self._is_quiet):
            log.warning("mqtt: %s %s; trying again", self.where, problem)
        self.problem = problem
        self.is_connected = problem is None
