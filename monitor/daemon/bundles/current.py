"""The message `bundle/current`: the bundle of each machine, its release, and the alarms that it has raised."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from monitor.bundle import Bundle
from monitor.config import Config
from monitor.config.installed import Change, Installed
from monitor.events.event import Event
from monitor.mqtt.messages import BundleInUse, CurrentMessage

EVERY_S = 3600.0  # unless something else changes


@dataclass
class _Count:
    bundle: str
    scored_s: float = 0.0
    seen_s: float = 0.0  # of the present run of the machine
    alarms: int = 0
    last: str = ""  # the id of the last alarm


class CurrentBundles:
    """Counts alarms since the bundle came into use, or since the start of the service. All calls from the event loop."""

    def __init__(self, publish: Callable[[CurrentMessage], None], scored_s: Callable[[], Mapping[str, float]]) -> None:
        """`scored_s` returns the seconds of sound that each running machine has scored since it was started."""
        self._publish = publish
        self._scored_s = scored_s
        self._config: Config | None = None
        self._bundles: Mapping[str, Bundle] = {}
        self._installed: Mapping[str, Installed] = {}
        self._counts: dict[str, _Count] = {}
        self._due_s = 0.0

    def apply_config(self, config: Config, bundles: Mapping[str, Bundle], installed: Mapping[str, Installed]) -> None:
        """Publish the bundles in use."""
        self._config, self._bundles, self._installed = config, bundles, installed
        for name, bundle in bundles.items():
            count = self._counts.get(name)
            if count is None or count.bundle != bundle.id:
                self._counts[name] = _Count(bundle.id)
        self._send()

    def count(self, event: Event) -> None:
        """Count an alarm once, whether it began as one or as a warning."""
        count = self._counts.get(event.machine)
        if count is None or event.test or event.severity != "alarm" or event.id == count.last:
            return
        count.alarms += 1
        count.last = event.id
        self._due_s = 0.0

    def poll(self, now_s: float) -> None:
        """Publish new counts: after an alarm, and once an hour."""
        self._count_scored()
        if now_s >= self._due_s:
            self._send()

    def _message(self, config: Config) -> CurrentMessage:
        self._count_scored()
        return CurrentMessage(group=config.update.group, machines={name: self._of(name) for name in config.machines})

    def _count_scored(self) -> None:
        for name, scored_s in self._scored_s().items():
            count = self._counts.get(name)
            if count is not None:
                count.scored_s += scored_s - (count.seen_s if scored_s >= count.seen_s else 0.0)  # else it was restarted
                count.seen_s = scored_s

    def _of(self, name: str) -> BundleInUse:
        installed, bundle, count = self._installed.get(name, Installed()), self._bundles.get(name), self._counts.get(name)
        refused, change = [*installed.refused.values()], installed.current
        if bundle is not None and bundle.manifest.provenance.adapted is None and change.bundle not in (None, bundle.id):
            change = installed.previous or Change()  # in place of a damaged one
        return BundleInUse(
            bundle=None if bundle is None else bundle.id,
            hash=None if bundle is None else bundle.digest,
            release=change.release,
            since=change.since,
            previous=None if installed.previous is None else installed.previous.bundle,
            trial_until=installed.trial_until,
            alarms=0 if count is None else count.alarms,
            hours=0.0 if count is None else round(count.scored_s / 3600.0, 2),
            refused=refused[-1] if refused else None,
        )

    def _send(self) -> None:
        self._due_s = time.monotonic() + EVERY_S
        if self._config is not None:
            self._publish(self._message(self._config))
