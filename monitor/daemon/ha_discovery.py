"""Home Assistant discovery: announces the configured machines, and clears retained topics that are no longer used."""

import logging
import random
from collections.abc import Iterable, Mapping

from monitor import __version__
from monitor.bundle import Bundle
from monitor.config import Config
from monitor.json_lines import to_json
from monitor.mqtt.broker import Broker
from monitor.mqtt.client import Received
from monitor.mqtt.discovery import NODE, Announced, discovery_topic, machine_device, node_device

log = logging.getLogger(__name__)
NODE_LEAVES = ("status", "info", "health", "bundle/current")
LEAVES = ("state", "anomaly", "availability", "snapshot", "learning")
AGAIN_WITHIN_S = 10.0  # random delay, so that a hundred nodes do not respond at once


class HomeAssistantDiscovery:
    """Announces machines and clears the retained topics of earlier configurations, including those of earlier runs."""

    def __init__(self, sink: Broker, *, left: Iterable[str]) -> None:
        """`left` are the absolute retained topics of an earlier run."""
        self._sink = sink
        self._ours = set(left)
        self._messages: dict[str, str] = {}
        self._again_at: float | None = None

    def apply_config(self, config: Config, bundles: Mapping[str, Bundle]) -> None:
        """Announce the configured machines, and clear the other topics. Without a broker, they are remembered."""
        if config.mqtt is None:
            return
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
        """The retained topics, to be saved in the state file for the next run."""
        return frozenset(self._ours | self._sink.topics_being_cleared)

    def home_assistant_started(self, now: float) -> None:
        """Schedule another announcement after a short delay, because Home Assistant may have lost everything."""
        if self._again_at is None:
            self._again_at = now + random.uniform(0.0, AGAIN_WITHIN_S)

    def poll(self, now: float) -> None:
        """Announce if an announcement is due."""
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            log.info("home assistant has started: announcing %d devices again", len(self._messages))
            self._announce()

    def _announce(self) -> None:
        for topic, text in self._messages.items():
            self._sink.publish_retained(f"/{topic}", text)


def birth_topic(config: Config) -> str | None:
    """The topic on which Home Assistant announces its start."""
    return f"{config.home_assistant.discovery_prefix}/status" if config.home_assistant.enabled else None


def is_birth(message: Received) -> bool:
    """Whether Home Assistant has just started. A retained message predates our connection and needs no response."""
    return message.payload == b"online" and not message.retained


def _announcements(config: Config, bundles: Mapping[str, Bundle], base: str) -> dict[str, str]:
    us = Announced(base=base, node=config.node, version=__version__)
    devices = {NODE: node_device(us)}
    for machine, settings in config.machines.items():
        bundle = bundles[machine].id if machine in bundles else None
        devices[machine] = machine_device(us, machine=machine, name=settings.name, bundle=bundle, is_private=config.private)
    prefix = config.home_assistant.discovery_prefix
    return {discovery_topic(prefix=prefix, node=us.node, device=device): to_json(text) for device, text in devices.items()}
