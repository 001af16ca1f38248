"""What a node reports about itself: `info`, `health`, `status`, and the line `node` of `watch`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from monitor.bundle import Bundle
from monitor.config import Config
from monitor.daemon.bundles.load import machine_info
from monitor.daemon.control.shared_microphone import Listening, microphone_status
from monitor.daemon.health import Health, versions
from monitor.daemon.supervisor import Supervisor
from monitor.mqtt.broker import Broker
from monitor.mqtt.messages import HealthMessage, InfoMessage


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Counts since the start, for `health`."""

    clips_lost: int
    commands_dropped: int
    history_lost: int
    history_error: str | None
    failures: int
    clock_synced: bool
    notifications_queued: int
    notifications_failed: int
    notifications_dropped: int


class NodeReport:
    """Assembles the reports. All calls must come from the event loop."""

    def __init__(
        self,
        health: Health,
        broker: Broker,
        supervisor: Supervisor,
        *,
        config: Callable[[], Config],
        bundles: Callable[[], Mapping[str, Bundle]],
        losses: Callable[[], Losses],
        listening: Listening,
        learning: Callable[[str], dict[str, Any] | None],
    ) -> None:
        """`config` and `bundles` return those in use, and `learning` the message about a machine."""
        self._learning = learning
        self._health = health
        self._broker = broker
        self._supervisor = supervisor
        self._config = config
        self._bundles = bundles
        self._losses = losses
        self._listening = listening
        self._versions = versions()
        self._latest: HealthMessage | None = None
        self._seen: object = None

    def info(self) -> InfoMessage:
        """The message `info`."""
        bundles = self._bundles()
        machines = {name: machine_info(settings, bundles.get(name)) for name, settings in self._config().machines.items()}
        return InfoMessage(versions=self._versions, machines=machines)

    def health(self) -> HealthMessage:
        """The message `health`, measured now."""
        counts = self._broker.counts
        self._latest = HealthMessage(
            **self._health.read(),
            **self._supervisor.counts(),
            queued=0 if counts is None else counts.queued,
            dropped=0 if counts is None else counts.dropped,
            parked=0 if counts is None else counts.parked,
            last_parked=None if counts is None else counts.last_parked,
            outbox_error=None if counts is None else counts.outbox_error,
            **asdict(self._losses()),
        )
        return self._latest

    def node(self) -> dict[str, Any]:
        """The data of the line `node`, with the last `health`."""
        health = self._latest or self.health()
        return {
            "node": self._config().node,
            "info": self.info().model_dump(by_alias=True),
            "health": health.model_dump(by_alias=True),
            "mqtt": self._mqtt(),
            "listening": self._listening.selector,
            **microphone_status(self._supervisor.microphones).body,
        }

    def status(self) -> dict[str, Any]:
        """The reply to `status`."""
        config = self._config()
        about = {"node": config.node, "state_dir": str(config.state_dir.absolute())}
        found = self._supervisor.status()
        for name, machine in found["machines"].items():
            machine["learning"] = self._learning(name)
        return {**about, "mqtt": self._mqtt(), **found}

    def has_changed(self) -> bool:
        """Whether something other than a counter has changed since the last call."""
        counts = self._broker.counts
        broker = None if counts is None else (counts.connected, counts.outbox_error)
        microphones = [(one.selector, one.device, one.trouble) for one in self._supervisor.microphones]
        health, info = self._latest, self.info()
        seen = (microphones, broker, self._listening.selector, None if health is None else health.ts, info)
        is_new, self._seen = seen != self._seen, seen
        return is_new

    def in_words(self) -> str:
        """Machines and broker in one line, for systemd."""
        counts = self._broker.counts
        if counts is None:
            broker = "no broker"
        elif counts.connected:
            broker = "broker connected"
        elif counts.outbox_error:
            broker = f"broker away, {counts.queued} events in memory only ({counts.outbox_error})"
        else:
            broker = f"broker away, {counts.queued} events kept"
        return f"{self._supervisor.in_words()}; {broker}"

    def _mqtt(self) -> dict[str, Any] | None:
        counts = self._broker.counts
        return None if counts is None else asdict(counts)
