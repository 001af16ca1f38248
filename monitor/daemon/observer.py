"""An observer of one machine: it sees every tick and changes nothing."""

from collections.abc import Callable
from typing import Protocol

from monitor.bundle import Bundle
from monitor.events.event import EventClock
from monitor.events.pipeline import Result
from monitor.mqtt.messages import StateMessage
from monitor.scoring.features import TickFrames


class Observer(Protocol):
    """Receives the ticks and states of one running machine. No call blocks or fails."""

    def state(self, message: StateMessage) -> None:
        """Receive the state after a tick."""
        ...

    def push(self, tick: TickFrames | None, result: Result) -> None:
        """Receive a tick with its result; without sound there is no tick."""
        ...


Observe = Callable[[str, Bundle, EventClock], Observer]  # the observer of a machine
