"""Which machines are listened to with which microphones, and what a changed configuration changes of that."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from monitor.audio.microphone import Microphone
from monitor.bundle import Bundle
from monitor.clips.service import ClipService
from monitor.config import Config, MachineConfig
from monitor.daemon.alarms import Alarms
from monitor.daemon.assembly import machine_scorer, make_clip_recorder
from monitor.daemon.machine import Machine, MachineSpec
from monitor.daemon.state_file import SavedSlowPath
from monitor.daemon.state_publisher import Outlet, StatePublisher

log = logging.getLogger(__name__)
Key = tuple[str, int | None, int]  # what opens a microphone: selector, rate insisted on, rate asked for


class Supervisor:
    """The machines of this node and their microphones. All calls come from one thread."""

    def __init__(
        self, outlet: Outlet, alarms: Alarms, archive: ClipService, *, node: str, slow_paths: Mapping[str, SavedSlowPath]
    ) -> None:
        """`slow_paths` are those of an earlier run."""
        self._outlet = outlet
        self._alarms = alarms
        self._archive = archive
        self._node = node
        self._slow_paths = dict(slow_paths)  # as they were when their machine was last stopped
        self._disabled: dict[str, str] = {}  # by whom each machine is that nobody listens to, as it was said
        self._microphones: dict[Key, Microphone] = {}
        self.machines: dict[str, Machine] = {}

    def apply_config(self, config: Config, bundles: Mapping[str, Bundle]) -> None:
        """Listen to what the configuration and people say; a machine for which nothing has changed does not notice."""
        self._alarms.apply_config(config)
        machines = {name: config.machines[name] for name in bundles if name not in self._alarms.disabled}
        keys = _keys(machines, bundles)
        wanted = {name: MachineSpec.of(machines[name], bundles[name], rate_hz=keys[name][2]) for name in machines}
        changed = [
            name for name, made_of in wanted.items() if name not in self.machines or self.machines[name].made_of != made_of
        ]
        scorers = {
            name: machine_scorer(bundles[name], machines[name].idle) for name in changed
        }  # may fail, before anything stops
        for name in [*self.machines]:
            if name not in wanted or name in changed:
                machine = self.machines.pop(name)
                machine.stop("reloaded" if name in wanted else "disabled")
                self._slow_paths[name] = SavedSlowPath.of(machine.bundle.id, machine.slow_path.state())
        self._slow_paths = {name: one for name, one in self._slow_paths.items() if name in config.machines}
        for key in set(self._microphones) - set(keys.values()):
            self._microphones.pop(key).close()
        for name in changed:
            self.machines[name] = Machine(
                name,
                wanted[name],
                bundles[name],
                scorers[name],
                self._microphone(keys[name]),
                self._outlet,
                node=self._node,
                alarm=self._alarms[name],
                evidence=make_clip_recorder(bundles[name], self._archive, config.clips),
                slow_state=self._slow_paths[name].state(bundles[name].id) if name in self._slow_paths else None,
            )
        self._say_disabled({name: "configuration" if name not in bundles else "command" for name in config.machines})

    def poll(self) -> None:
        """Take what the microphones have heard; about ten times a second."""
        for microphone in self._microphones.values():
            microphone.poll()
        for machine in self.machines.values():
            machine.listen()

    def slow_paths(self) -> dict[str, SavedSlowPath]:
        """What a restart must not forget."""
        now = {name: SavedSlowPath.of(one.bundle.id, one.slow_path.state()) for name, one in self.machines.items()}
        return {**self._slow_paths, **now}

    def stop(self) -> None:
        """End what is open, and every child process."""
        for machine in self.machines.values():
            machine.stop("shutdown")
        for microphone in self._microphones.values():
            microphone.close()
        self.machines.clear()
        self._microphones.clear()

    @property
    def is_started(self) -> bool:
        """Whether every machine either hears or has said why not."""
        return all(machine.is_started for machine in self.machines.values())

    def stalled(self) -> str | None:
        """What should make progress and does not."""
        late = [f"{name} for {machine.stalled_s():.0f} s" for name, machine in self.machines.items() if machine.stalled_s()]
        return ", ".join(late) or None

    def status(self) -> dict[str, Any]:
        """Each machine and each microphone."""
        return {
            "machines": {name: machine.status() for name, machine in self.machines.items()},
            "microphones": [_describe(one) for one in self._microphones.values()],
        }

    def in_words(self) -> str:
        """The machines' states in one line."""
        listened = [machine.in_words() for machine in self.machines.values()]
        return "; ".join([*listened, *(f"{name} disabled" for name in self._disabled)])

    def counts(self) -> dict[str, Any]:
        """What was missed, over all machines, and the age of the oldest last frame."""
        ages = [machine.age_s for machine in self.machines.values()]
        return {
            "overruns": sum(one.counts.overruns for one in self._microphones.values()),
            "gap_s": round(sum(machine.gap_s for machine in self.machines.values()), 3),
            "last_frame_age_s": round(max(ages), 1) if ages else None,
        }

    @property
    def microphones(self) -> list[Microphone]:
        """Those that are listened to."""
        return list(self._microphones.values())

    def _microphone(self, key: Key) -> Microphone:
        if key not in self._microphones:
            selector, rate_hz, wanted_hz = key
            self._microphones[key] = Microphone(selector, wanted_rate_hz=wanted_hz, rate_hz=rate_hz)
        return self._microphones[key]

    def _say_disabled(self, machines: Mapping[str, str]) -> None:
        """Say of each machine that nobody listens to by whom it was disabled, where that is new."""
        disabled = {name: by for name, by in machines.items() if name not in self.machines}
        for name, by in disabled.items():
            if self._disabled.get(name) != by:
                feed = StatePublisher(self._outlet, machine=name, threshold=None)
                feed.silent("disabled", by, datetime.now(timezone.utc))
                feed.available(False)
        self._disabled = disabled


def _keys(machines: Mapping[str, MachineConfig], bundles: Mapping[str, Bundle]) -> dict[str, Key]:
    """What each machine's microphone is opened with: machines that share one ask for the highest of their rates."""
    shared = {name: (settings.microphone, settings.microphone_rate_hz) for name, settings in machines.items()}
    rates_hz = {name: bundles[name].manifest.front_end.sample_rate_hz for name in machines}
    return {name: (*own, max(rates_hz[other] for other in shared if shared[other] == own)) for name, own in shared.items()}


def _describe(microphone: Microphone) -> dict[str, Any]:
    trouble = microphone.trouble
    return {
        "selector": microphone.selector,
        "device": microphone.device,
        "trouble": None if trouble is None else trouble.reason,
        "detail": None if trouble is None else trouble.detail,
        **asdict(microphone.counts),
    }
