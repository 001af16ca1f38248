"""The outlet of the machines: messages go to the broker, and to everybody else on this computer who needs them."""

from collections.abc import Callable, Sequence

from monitor.daemon.guard import Guard
from monitor.daemon.state_publisher import Outlet
from monitor.events.event import Event


class FanOut:
    """Passes events to the broker first, because they must not be lost, and then to the others."""

    def __init__(self, broker: Outlet, others: Sequence[Callable[[Event], None]], guard: Guard) -> None:
        self._broker = broker
        self._others = others
        self._guard = guard

    def publish_retained(self, topic: str, payload: str) -> None:
        """Publish a retained message."""
        self._broker.publish_retained(topic, payload)

    def publish(self, event: Event) -> None:
        """Publish one message of an anomaly."""
        self._broker.publish(event)
        for other in self._others:
            self._guard.run("event", lambda other=other: other(event))  # type: ignore[misc]
