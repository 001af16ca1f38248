"""Notifications of a node: decides from each machine's results which messages are due, and passes them to the worker."""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from monitor.clock import SteadyClock
from monitor.config import Config, NotifyConfig
from monitor.events.event import Event, Severity
from monitor.events.pipeline import Result
from monitor.notify.due import AlarmView, Due
from monitor.notify.message import headline, render
from monitor.notify.queue import NotifyQueue
from monitor.notify.worker import NotifyWorker
from monitor.threads import Probe

log = logging.getLogger(__name__)
FILE = "notifications.sqlite"
MakeAlarm = Callable[[str, Severity], AlarmView]  # a new alarm of a machine with that minimum severity


class Notifications:
    """Messages of all machines. Without targets nothing is stored and no thread is started."""

    def __init__(self, state_dir: Path, *, clock: SteadyClock, make_alarm: MakeAlarm) -> None:
        """`clock` is that of the alarms."""
        self.n_errors = 0  # unexpected
        self._path = state_dir / FILE
        self._is_left = self._path.exists()  # an earlier run has left messages
        self._clock = clock
        self._make_alarm = make_alarm
        self._config = Config()
        self._worker: NotifyWorker | None = None
        self._due: dict[tuple[str, Severity], Due] = {}
        self._events: dict[str, Event] = {}  # the last message of each machine's last event
        self._pictures: dict[str, tuple[str, bytes]] = {}  # the last picture of each machine, with the id of its event

    def apply_config(self, config: Config) -> None:
        """Apply the settings. Messages to targets that are no longer configured are dropped."""
        self._config = config
        self._due = {key: due for key, due in self._due.items() if key[0] in config.machines}
        if self._worker is None and (config.notify or self._is_left):
            self._worker = NotifyWorker(NotifyQueue(self._path))
            self._worker.configure(config.notify)
            self._worker.start()
        elif self._worker is not None:
            self._worker.configure(config.notify)

    def sink(self, machine: str, alarm: AlarmView) -> "MachineNotifier":
        """The receiver of a machine's results. It must come after the one that updates `alarm`."""
        return MachineNotifier(self, machine, alarm)

    def show(self, machine: str, event_id: str, picture: bytes) -> None:
        """Receive the picture of an event; on any thread."""
        if self._worker is not None:
            self._pictures[machine] = event_id, picture
            self._worker.attach(event_id, picture)

    def send_test(self, event: Event) -> list[str]:
        """Queue a message about a test to every target that receives messages about its machine; return their names."""
        targets = {name: target for found in self._targets(event.machine).values() for name, target in found.items()}
        name = self._config.machines[event.machine].name or event.machine
        for target, config in targets.items():
            message = render(config, target, event, name=name, headline="TEST", now=datetime.now(timezone.utc))
            message = message if "TEST" in message.title else message.marked("TEST")
            assert self._worker is not None
            self._worker.put(message, waits_for_picture=False)
        return list(targets)

    def is_sent(self, target: str, event_id: str) -> bool:
        """Whether the last message that a target has received is about this event."""
        return self._worker is not None and self._worker.last_sent.get(target) == event_id

    @property
    def counts(self) -> dict[str, Any]:
        """The counters for `health`."""
        worker = self._worker
        if worker is None:
            return dict.fromkeys(("notifications_queued", "notifications_failed", "notifications_dropped"), 0)
        return {
            "notifications_queued": worker.n_queued,
            "notifications_failed": worker.n_failed,
            "notifications_dropped": worker.n_dropped,
        }

    def probe(self, *, patience_s: float) -> Probe:
        """The watchdog's view of the thread, if there is one."""
        return Probe(
            name="notify",
            is_alive=lambda: self._worker is None or self._worker.is_alive,
            advanced=lambda: time.monotonic_ns() if self._worker is None else self._worker.advanced(),
            n_failures=lambda: self.n_errors + (0 if self._worker is None else self._worker.n_failures),
            patience_s=patience_s,
        )

    def stop(self, timeout_s: float) -> None:
        """Store what is not delivered and stop."""
        if self._worker is not None:
            self._worker.stop(timeout_s)

    def update(self, machine: str, alarm: AlarmView, result: Result) -> None:
        """Queue the messages that are due with this result."""
        event = result.event
        if event is not None:
            self._events[machine] = event
        began = event.id if event is not None and event.event_type != "end" else None
        by_level = self._targets(machine)
        for level, targets in by_level.items():
            if (machine, level) not in self._due:
                self._due[machine, level] = Due(self._make_alarm(machine, level))
            due = self._due[machine, level]
            can_acknowledge = result.severity in ("alarm", self._config.alarm.from_)
            kind = due.update(
                result.state,
                result.severity,
                event=began,
                marks=alarm.marks,
                repeat_s=self._config.alarm.repeat_s if can_acknowledge else None,
                now=self._clock.now(),
            )
            if kind is not None and machine in self._events:
                last = self._events[machine]
                self._put(targets, last, headline(kind, last.severity, n_recent=due.n_recent))

    def _targets(self, machine: str) -> Mapping[Severity, dict[str, NotifyConfig]]:
        """The targets that receive messages about a machine, by their minimum severity."""
        found: dict[Severity, dict[str, NotifyConfig]] = {}
        for name, target in self._config.notify.items():
            if target.machines is None or machine in target.machines:
                found.setdefault(target.severity, {})[name] = target
        return found

    def _put(self, targets: Mapping[str, NotifyConfig], event: Event, headline: str) -> None:
        worker = self._worker
        assert worker is not None
        now = datetime.now(timezone.utc)
        display = self._config.machines[event.machine].name or event.machine
        known = self._pictures.get(event.machine)
        for name, target in targets.items():
            message = render(target, name, event, name=display, headline=headline, now=now)
            worker.put(message, waits_for_picture=target.picture)
        if known is not None and known[0] == event.id:
            worker.attach(*known)


class MachineNotifier:
    """Receives the results of one machine. An error here must not stop the monitoring."""

    def __init__(self, notifications: Notifications, machine: str, alarm: AlarmView) -> None:
        self._notifications = notifications
        self._machine = machine
        self._alarm = alarm
        self._error: str | None = None

    def push(self, result: Result) -> None:
        """Receive the result of the next tick."""
        try:
            self._notifications.update(self._machine, self._alarm, result)
        except Exception as error:
            self._notifications.n_errors += 1
            if repr(error) != self._error:
                self._error = repr(error)
                log.exception("notify: %s: unexpected error", self._machine)

    def close(self, event: Event | None) -> None:
        """The machine stops; an end is not reported."""
