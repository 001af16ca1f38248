"""The service's view of the broker, and its stand-in on a node without one (`mqtt: null`)."""

from typing import Protocol

from monitor.events.event import Event
from monitor.mqtt.sink import SinkCounts
from monitor.threads import Probe


class Broker(Protocol):
    """Delivers messages. Topics are relative to the node's, or absolute with a leading `/`. No call blocks or raises."""

    @property
    def counts(self) -> SinkCounts | None:
        """The state of the delivery; None without a broker."""
        ...

    @property
    def topics_being_cleared(self) -> set[str]:
        """The absolute topics whose removal is not acknowledged yet."""
        ...

    def start(self) -> None:
        """Connect in the background."""
        ...

    def stop(self, timeout_s: float) -> int:
        """Deliver what is possible in that time; returns the number of events that are left."""
        ...

    def probes(self, *, patience_s: float) -> tuple[Probe, ...]:
        """The threads, for the watchdog."""
        ...

    def publish(self, event: Event) -> None:
        """Store an event and send it until it is acknowledged."""
        ...

    def publish_retained(self, topic: str, payload: str | bytes) -> None:
        """Publish now and after every reconnect."""
        ...

    def clear_retained(self, topic: str) -> None:
        """Remove a retained message."""
        ...

    def publish_transient(self, topic: str, payload: str | bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Publish once if there is a connection."""
        ...

    def clock_corrected(self, offset_s: float, *, synced: bool = True) -> None:
        """The clock was `offset_s` behind."""
        ...


class NoBroker:
    """Sends nothing. Events still reach the history, the clips and the clients of the control socket."""

    @property
    def counts(self) -> SinkCounts | None:
        """None."""
        return None

    @property
    def topics_being_cleared(self) -> set[str]:
        """None."""
        return set()

    def start(self) -> None:
        """Do nothing."""

    def stop(self, timeout_s: float) -> int:
        """Nothing is left."""
        return 0

    def probes(self, *, patience_s: float) -> tuple[Probe, ...]:
        """There are no threads."""
        return ()

    def publish(self, event: Event) -> None:
        """Do nothing."""

    def publish_retained(self, topic: str, payload: str | bytes) -> None:
        """Do nothing."""

    def clear_retained(self, topic: str) -> None:
        """Do nothing."""

    def publish_transient(self, topic: str, payload: str | bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Do nothing."""

    def clock_corrected(self, offset_s: float, *, synced: bool = True) -> None:
        """Do nothing."""
