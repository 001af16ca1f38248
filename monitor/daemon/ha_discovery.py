"""Which retained topics belong to the configured machines, what Home Assistant is told, and what is to be removed."""

import logging
import random
from collections.abc import Iterable, Mapping

from monitor import __version__
from monitor.bundle import Bundle
from monitor.config import Config
from monitor.json_lines import to_json
from monitor.mqtt.client import Received
from monitor.mqtt.discovery import NODE, Announced, discovery_topic, machine_device, node_device
from monitor.mqtt.sink import MqttSink

log = logging.getLogger(__name__)
NODE_LEAVES = ("status", "info", "health")
LEAVES = ("state", "anomaly", "availability", "snapshot")
AGAIN_WITHIN_S = 10.0  # so that a hundred nodes do not come at once


class HomeAssistantDiscovery:
    """Announces machines, and takes back what an earlier configuration, even of an earlier run, has left at the broker."""

    def __init__(self, sink: MqttSink, *, left: Iterable[str]) -> None:
        """`left`: the absolute topics that an earlier run may have filled."""
        self._sink = sink
        self._ours = set(left)
        self._messages: dict[str, str] = {}
        self._again_at: float | None = None

    def apply_config(self, config: Config, bundles: Mapping[str, Bundle]) -> None:
        """Announce what is configured, and take back the rest."""
        base = f"{config.mqtt.prefix}/{config.node}"
        states = {f"{base}/{leaf}" for leaf in NODE_LEAVES}
        states |= {f"{base}/{machine}/{leaf}" for machine in config.machines for leaf in LEAVES}
        self._messages = _announcements(config, bundles, base) if config.home_assistant.enabled else {}
        wanted = states | set(self._messages)
        for topic in sorted(self._ours - wanted):
            self._sink.clear_retained(f"/{topic}")
        self._ours = wanted
        self._announce()

    @property
    def topics(self) -> frozenset[str]:
        """What a later run has to take back if its configuration does not want it."""
        return frozenset(self._ours | self._sink.topics_being_cleared)

    def home_assistant_started(self, now: float) -> None:
        """It may have forgotten everything: announce again, in a while."""
        if self._again_at is None:
            self._again_at = now + random.uniform(0.0, AGAIN_WITHIN_S)

    def poll(self, now: float) -> None:
        """Do what has become due."""
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            log.info("home assistant has started: %d devices are announced again", len(self._messages))
            self._announce()

    def _announce(self) -> None:
        for topic, text in self._messages.items():
            self._sink.publish_retained(f"/{topic}", text)


def birth_topic(config: Config) -> str | None:
    """Where Home Assistant says that it has started."""
    return f"{config.home_assistant.discovery_prefix}/status" if config.home_assistant.enabled else None


def is_birth(message: Received) -> bool:
    """A retained one is from before our connection, after which everything is announced anyway."""
    return message.payload == b"online" and not message.retained


def _announcements(config: Config, bundles: Mapping[str, Bundle], base: str) -> dict[str, str]:
    us = Announced(base=base, node=config.node, version=__version__)
    devices = {NODE: node_device(us)}
    for machine, settings in config.machines.items():
        bundle = bundles[machine].id if machine in bundles else None
        devices[machine] = machine_device(us, machine=machine, name=settings.name, bundle=bundle)
    prefix = config.home_assistant.discovery_prefix
    return {discovery_topic(prefix=prefix, node=us.node, device=device): to_json(text) for device, text in devices.items()}
