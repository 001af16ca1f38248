"""Publish from a program that may block and fail: `monitor --replay --publish`."""

import time
from contextlib import suppress
from typing import NoReturn

from monitor.config import MqttConfig
from monitor.errors import SinkError
from monitor.events.event import Event
from monitor.json_lines import to_json
from monitor.mqtt.sink import MqttSink

CONNECT_TIMEOUT_S = 60.0  # longer than all steps of connecting together
ACKNOWLEDGE_TIMEOUT_S = 30.0  # without any progress
STOPPING_TIMEOUT_S = 2.0
MAX_PENDING = 500


class MqttPublisher:
    """An MqttSink without an outbox that publishes every message in order with QoS 1. Failures raise SinkError."""

    def __init__(self, config: MqttConfig, *, node: str) -> None:
        """Connect; SinkError if that fails."""
        # With the same client id, the broker would disconnect the service.
        client_id = f"{config.client_id or f'stethos-{node}'}-replay"
        settings = config.model_copy(update={"client_id": client_id})
        self._sink = sink = MqttSink(settings, node=node, state_dir=None, log_first_failure=False)
        self._failed = False
        self._n_published = 0
        sink.start()
        sink.wait_for(lambda: sink.counts.connected or sink.counts.last_error is not None, CONNECT_TIMEOUT_S)
        if not sink.counts.connected:
            sink.stop(0.0)
            self._fail(sink.counts.last_error or f"did not answer within {CONNECT_TIMEOUT_S:.0f} s")

    def publish(self, event: Event) -> None:
        """Publish an event once."""
        self._publish(f"{event.machine}/event", to_json(event.to_dict()), retain=False)

    def publish_retained(self, topic: str, payload: str | bytes) -> None:
        """Publish the value of a retained topic."""
        self._publish(topic, payload, retain=True)

    def __enter__(self) -> "MqttPublisher":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close. If the program was interrupted or has failed, close quickly, without masking the exception."""
        if kind is None:
            self.close()
            return
        with suppress(SinkError):
            self.close(timeout_s=STOPPING_TIMEOUT_S)

    def close(self, *, timeout_s: float = ACKNOWLEDGE_TIMEOUT_S) -> None:
        """Wait until everything is acknowledged, publish `offline`, disconnect. SinkError states how much was not delivered."""
        try:
            if not self._failed:
                self._wait_for_pending(0, timeout_s)
                self._check_refusal()
        finally:
            self._sink.stop(min(timeout_s, STOPPING_TIMEOUT_S))

    def _publish(self, topic: str, payload: str | bytes, *, retain: bool) -> None:
        """Publish, and block only if too many messages are unacknowledged."""
        self._n_published += 1
        self._sink.publish_ordered(topic, payload, retain=retain)
        self._wait_for_pending(MAX_PENDING, ACKNOWLEDGE_TIMEOUT_S)

    def _wait_for_pending(self, max_pending: int, timeout_s: float) -> None:
        while (pending := self._sink.n_pending) > max_pending:
            self._wait_for_progress(pending, timeout_s)

    def _check_refusal(self) -> None:
        if self._sink.refusal is not None:
            self._fail(f"rejected {self._sink.n_refused} of {self._n_published} messages: {self._sink.refusal}")

    def _wait_for_progress(self, pending: int, timeout_s: float) -> None:
        began = time.monotonic()
        if not self._sink.wait_for(lambda: self._sink.n_pending < pending, timeout_s):
            self._fail(f"left {pending} messages unacknowledged for {time.monotonic() - began:.0f} s")

    def _fail(self, complaint: str) -> NoReturn:
        self._failed = True
        raise SinkError(f"mqtt: {self._sink.address} {complaint}")
