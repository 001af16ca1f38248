"""Publish to an MQTT broker (docs/mqtt.md); the only file that imports paho."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from monitor.core.errors import SinkError

log = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 10.0
ACKNOWLEDGE_TIMEOUT_S = 30.0  # without any progress
STOPPING_TIMEOUT_S = 2.0
MAX_PENDING = 500


class MqttPublisher:
    """A connection that publishes with QoS 1 and knows what the broker has not acknowledged yet.

    `status` is `online` while it is open and `offline` afterwards, by last will if need be.
    """

    def __init__(self, *, host: str, port: int, prefix: str, node: str) -> None:
        self._where = f"{host}:{port}"
        self._base = f"{prefix}/{node}"
        self._changed = threading.Condition()
        self._sent = self._acknowledged = 0
        self._timeout_s = ACKNOWLEDGE_TIMEOUT_S
        self._refusal: str | None = None
        self._connected = self._broken = False
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv311)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        self._client.reconnect_delay_set(1, 10)
        self._client.will_set(f"{self._base}/status", "offline", qos=1, retain=True)
        try:
            self._client.connect(host, port, keepalive=30)
        except (OSError, ValueError) as error:
            raise SinkError(f"mqtt: {self._where} cannot be reached: {error}") from error
        self._client.loop_start()
        self._wait(lambda: self._connected or self._refusal is not None, CONNECT_TIMEOUT_S, "does not answer as a broker")
        if self._refusal is not None:
            self._client.loop_stop()
            raise SinkError(f"mqtt: {self._where} refuses the connection: {self._refusal}")

    def publish(self, topic: str, payload: str, *, retain: bool) -> None:
        """Publish below `<prefix>/<node>/`; waits only when too much is unacknowledged."""
        with self._changed:
            self._sent += 1
        self._client.publish(f"{self._base}/{topic}", payload, qos=1, retain=retain)
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
                self.publish("status", "offline", retain=True)
                self._wait_for_pending(0)
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def _wait_for_pending(self, most: int) -> None:
        while (pending := self._sent - self._acknowledged) > most:
            self._wait(
                partial(self._acknowledged_since, self._acknowledged),
                self._timeout_s,
                f"leaves {pending} messages unacknowledged",
            )

    def _acknowledged_since(self, n: int) -> bool:
        return self._acknowledged > n

    def _wait(self, condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        start = time.monotonic()
        with self._changed:
            if not self._changed.wait_for(condition, timeout_s):
                self._broken = True
                raise SinkError(f"mqtt: {self._where} {complaint} after {time.monotonic() - start:.0f} s")

    def _on_connect(self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _: Properties | None) -> None:
        with self._changed:
            if reason.is_failure:
                self._refusal = str(reason)
            else:
                self._connected = True
                self._sent += 1
                client.publish(f"{self._base}/status", "online", qos=1, retain=True)
                log.info("mqtt: connected to %s", self._where)
            self._changed.notify_all()

    def _on_disconnect(self, _c: Client, _d: Any, _f: DisconnectFlags, reason: ReasonCode, _: Properties | None) -> None:
        if reason.is_failure:
            log.warning("mqtt: connection to %s lost: %s", self._where, reason)

    def _on_publish(self, _client: Client, _data: Any, _mid: int, _reason: ReasonCode, _: Properties) -> None:
        with self._changed:
            self._acknowledged += 1
            self._changed.notify_all()
