"""Publish from a program that may wait, and fail: `monitor --replay --publish`."""

import threading
import time
from collections import deque
from contextlib import suppress
from typing import NoReturn

from monitor.config import MqttConfig
from monitor.errors import SinkError
from monitor.mqtt.connection import Connection
from monitor.mqtt.session import Acknowledged, Received, Session

CONNECT_TIMEOUT_S = 60.0  # more than the steps of connecting take together
ACKNOWLEDGE_TIMEOUT_S = 30.0  # without any progress
STOPPING_TIMEOUT_S = 2.0
MAX_PENDING = 500
Message = tuple[str, str | bytes, bool]


class MqttPublisher:
    """Publishes with QoS 1, knows what the broker has not acknowledged, and sends that again over the next connection."""

    def __init__(self, config: MqttConfig, *, node: str) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Message] = deque()
        self._sent: dict[int, Message] = {}
        self._acknowledged = 0
        self._timeout_s = ACKNOWLEDGE_TIMEOUT_S
        self._refusal: str | None = None
        self._broken = False
        client_id = f"{config.client_id or f'stethos-{node}'}-replay"  # not that of the service, which would be thrown out
        settings = config.model_copy(update={"client_id": client_id})
        self._connection = Connection(settings, node=node, traffic=self, says_first_failure=False)  # we do, and give up
        self._connection.start()
        with self._changed:
            self._changed.wait_for(self._is_decided, CONNECT_TIMEOUT_S)
        if not self._connection.is_connected:
            self._connection.close(timeout_s=0.0)
            problem = self._connection.problem or f"does not answer after {CONNECT_TIMEOUT_S:.0f} s"
            raise SinkError(f"mqtt: {self._connection.where} {problem}")

    def publish(self, topic: str, payload: str | bytes, *, retain: bool) -> None:
        """Publish below `<prefix>/<node>/`; waits only when too much is unacknowledged."""
        with self._changed:
            self._waiting.append((f"{self._connection.base}/{topic}", payload, retain))
        self._connection.wake()
        self._wait_for_pending(MAX_PENDING)

    def __enter__(self) -> "MqttPublisher":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; where the program is being stopped or has failed, only briefly, and without hiding why."""
        if kind is None:
            self.close()
            return
        with suppress(SinkError):
            self.close(timeout_s=STOPPING_TIMEOUT_S)

    def close(self, *, timeout_s: float = ACKNOWLEDGE_TIMEOUT_S) -> None:
        """Wait until everything is acknowledged, say `offline`, disconnect; SinkError says how much was not delivered."""
        self._timeout_s = timeout_s
        try:
            if not self._broken:
                self._wait_for_pending(0)
                self._check_refusal()
        finally:
            self._connection.close(timeout_s=min(timeout_s, STOPPING_TIMEOUT_S))

    def connected(self, session: Session) -> None:
        """Traffic: what was under way goes first."""
        with self._changed:
            self._changed.notify_all()

    def turn(self, session: Session) -> None:
        """Traffic: send what waits."""
        with self._changed:
            while self._waiting:
                topic, payload, retain = message = self._waiting.popleft()
                self._sent[session.publish(topic, payload, qos=1, retain=retain)] = message

    def acknowledged(self, answer: Acknowledged) -> None:
        """Traffic: one less to wait for."""
        with self._changed:
            self._acknowledged += self._sent.pop(answer.token, None) is not None
            self._refusal = self._refusal or answer.refusal
            self._changed.notify_all()

    def received(self, message: Received) -> None:
        """Traffic: nothing is subscribed."""

    def lost(self) -> None:
        """Traffic: put what was under way back in front, in its order."""
        with self._changed:
            self._waiting.extendleft(reversed(self._sent.values()))
            self._sent.clear()
            self._changed.notify_all()

    def _is_decided(self) -> bool:
        return self._connection.is_connected or self._connection.problem is not None

    def _wait_for_pending(self, most: int) -> None:
        with self._changed:
            while (pending := len(self._waiting) + len(self._sent)) > most:
                self._wait_for_progress(pending)

    def _wait_for_progress(self, pending: int) -> None:
        began, before = time.monotonic(), self._acknowledged
        if not self._changed.wait_for(lambda: self._acknowledged > before, self._timeout_s):
            self._fail(f"leaves {pending} messages unacknowledged after {time.monotonic() - began:.0f} s")
        self._check_refusal()

    def _check_refusal(self) -> None:
        if self._refusal is not None:
            self._fail(f"refuses a message: {self._refusal}")

    def _fail(self, complaint: str) -> NoReturn:
        self._broken = True
        raise SinkError(f"mqtt: {self._connection.where} {complaint}")
