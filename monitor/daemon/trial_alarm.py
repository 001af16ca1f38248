"""Test alarms: a marked event that passes through everything behind detection, and ends by itself."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from monitor.config import Config
from monitor.daemon.control.socket import ControlError, Reply
from monitor.daemon.state_publisher import Outlet
from monitor.events.event import Event
from monitor.mqtt.broker import Broker
from monitor.notify.message import test_event
from monitor.notify.service import Notifications

log = logging.getLogger(__name__)
LASTS_S = 10.0
CONFIRM_S, POLL_S = 8.0, 0.1  # the reply waits at most this long for receivers


@dataclass
class _Running:
    start: Event
    timer: asyncio.TimerHandle


class TrialAlarms:
    """The outlet of the machines, in which a test sets `anomaly` to ON for a while. Its event is not part of the history.

    Detection, alarms, snoozes and floods know nothing of it. All calls must come from the event loop.
    """

    def __init__(
        self,
        outlet: Outlet,
        broker: Broker,
        notifications: Notifications,
        *,
        config: Callable[[], Config],
        show: Callable[[Event], None],
        n_viewers: Callable[[], int],
    ) -> None:
        """`outlet` is that of the machines. `show` sends an event to clients of the control socket; `n_viewers` counts them."""
        self._outlet = outlet
        self._broker = broker
        self._notifications = notifications
        self._config = config
        self._show = show
        self._n_viewers = n_viewers
        self._anomalies: dict[str, str] = {}  # the last `anomaly` of each machine
        self._running: _Running | None = None

    def publish_retained(self, topic: str, payload: str) -> None:
        """Pass a retained message of a machine on; during its test, `anomaly` stays ON."""
        machine, _, leaf = topic.rpartition("/")
        if leaf == "anomaly":
            self._anomalies[machine] = payload
            if self._running is not None and self._running.start.machine == machine and payload != "ON":
                return
        self._outlet.publish_retained(topic, payload)

    def publish(self, event: Event) -> None:
        """Pass an event of a machine on."""
        self._outlet.publish(event)

    async def start(self, request: Mapping[str, Any]) -> Reply:
        """The request `test-alarm`: start one, and wait until every receiver has it, or some seconds."""
        config, machine = self._config(), request.get("machine")
        if machine not in config.machines:
            raise ControlError(f"machine must be one of {', '.join(config.machines)}, got {str(machine)[:80]}")
        if self._running is not None:
            raise ControlError(f"a test alarm of {self._running.start.machine} is open; it ends within {LASTS_S:.0f} s")
        log.warning("%s: TEST ALARM; it ends by itself after %.0f s", machine, LASTS_S)
        event = test_event(config.node, machine, datetime.now(timezone.utc))
        before = self._broker.counts
        self._running = _Running(event, asyncio.get_running_loop().call_later(LASTS_S, self.end))
        self._outlet.publish_retained(f"{machine}/anomaly", "ON")
        self._send(event)
        targets = self._notifications.send_test(event)
        until = asyncio.get_running_loop().time() + CONFIRM_S
        n_due = 0 if before is None else before.delivered + before.queued - before.parked + 1
        while True:
            counts = self._broker.counts
            is_delivered = None if counts is None else counts.delivered >= n_due
            sent = {target: self._notifications.is_sent(target, event.id) for target in targets}
            is_over = asyncio.get_running_loop().time() > until
            if is_over or (is_delivered is not False and all(sent.values())):
                break
            await asyncio.sleep(POLL_S)
        announced = counts is not None and config.home_assistant.enabled
        return Reply(
            {
                "event": event.id,
                "lasts_s": LASTS_S,
                "mqtt": None if counts is None else {"acknowledged": is_delivered, "last_error": counts.last_error},
                "home_assistant": announced,
                "notify": {target: "sent" if done else "queued" for target, done in sent.items()},
                "viewers": self._n_viewers(),
            }
        )

    def end(self) -> None:
        """End the test, if there is one: its event ends, and `anomaly` is that of the machine again."""
        if self._running is None:
            return
        running, self._running = self._running, None
        running.timer.cancel()
        start, now = running.start, datetime.now(timezone.utc)
        duration_s = round(max(0.0, (now - start.ts).total_seconds()), 3)
        self._send(replace(start, event_type="end", seq=1, ts=now, duration_s=duration_s, end_reason="cleared"))
        self._outlet.publish_retained(f"{start.machine}/anomaly", self._anomalies.get(start.machine, "None"))

    def _send(self, event: Event) -> None:
        self._broker.publish(event)
        self._show(event)
