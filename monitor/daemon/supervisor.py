"""The supervisor: runs the machines and their microphones, and applies configuration changes to them."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, Literal

from monitor.audio.capture_process import CaptureProcess
from monitor.audio.microphone import Microphone
from monitor.bundle import Bundle
from monitor.clips.service import ClipService
from monitor.clock import Clock
from monitor.config import Config, MachineConfig
from monitor.daemon.alarms import Alarms
from monitor.daemon.assembly import make_clip_recorder
from monitor.daemon.guard import Guard
from monitor.daemon.machine import Machine, MachineSpec
from monitor.daemon.observer import Observe
from monitor.daemon.state_file import SavedSlowPath
from monitor.daemon.state_publisher import Outlet, StatePublisher
from monitor.events.event import Anchor, State
from monitor.monitor import EPOCH
from monitor.mqtt.messages import StateMessage
from monitor.notify.service import Notifications

log = logging.getLogger(__name__)
OPENING_POLL_S = 0.1
MIN_POLL_S, MAX_POLL_S = 0.05, 0.5  # between two polls of working microphones
LATE_S = 0.01  # allowed for the arrival of a period
RETRY_S, MAX_RETRY_S = 1.0, 60.0  # after an unexpected error of a machine; doubled with each in a row
REAP_S = 1.0  # at the stop, for all capture processes together
FAILED = "score_error"  # the reason that is published meanwhile
BROKEN = "bundle"  # the reason that is published for a machine whose bundle was refused at the start
Key = tuple[str, int | None, int]  # of a microphone: selector, required rate, requested rate


@dataclass
class _Failure:
    """The last unexpected error of a machine."""

    error: str
    wait_s: float
    at: float  # monotonic, s

    @property
    def retry_at(self) -> float:
        return self.at + self.wait_s


class Supervisor:
    """Runs the machines of this node and their microphones. All calls must come from one thread.

    After an unexpected error a machine is stopped, its state becomes `unknown`, and it is restarted after a delay. The
    other machines are not affected.
    """

    def __init__(
        self,
        outlet: Outlet,
        alarms: Alarms,
        clips: ClipService,
        *,
        node: str,
        slow_paths: Mapping[str, SavedSlowPath],
        notifications: Notifications | None = None,
        observe: Observe | None = None,
        show_state: Callable[[str, StateMessage], None] | None = None,
        launch: Callable[[], CaptureProcess] = CaptureProcess,
    ) -> None:
        """`slow_paths` are the states saved by an earlier run.

        `observe` makes the observer of a running machine, and `show_state` receives the state of one that is not running.
        `launch` starts a capture process.
        """
        self._notifications = notifications
        self._outlet = outlet
        self._alarms = alarms
        self._clips = clips
        self._node = node
        self._observe = observe
        self._show_state = show_state
        self._launch = launch
        self._slow_paths = dict(slow_paths)  # as they were when their machine was last stopped
        self._stopped: dict[str, tuple[State, str]] = {}  # state and reason of machines that should not run, as last published
        self._failures: dict[str, _Failure] = {}
        self._microphones: dict[Key, Microphone] = {}
        self._unreaped: list[tuple[str, CaptureProcess]] = []  # killed, with the selector of their closed microphone
        self._config = Config()
        self._bundles: Mapping[str, Bundle] = {}
        self._specs: dict[str, MachineSpec] = {}  # of the machines that should run
        self._keys: dict[str, Key] = {}
        self.machines: dict[str, Machine] = {}
        self._n_failures = 0  # of machines
        self._guard = Guard()

    def apply_config(self, config: Config, bundles: Mapping[str, Bundle]) -> None:
        """Run the machines that the configuration and people want. A machine without a change continues.

        An enabled machine without a bundle is `unknown`.
        """
        settings = {name: config.machines[name] for name in bundles if name not in self._alarms.disabled}
        keys = microphone_keys(settings, bundles)
        specs = {name: MachineSpec.of(settings[name], bundles[name], rate_hz=keys[name][2]) for name in settings}
        changed = [name for name, spec in specs.items() if self._specs.get(name) != spec or name in self._not_running()]
        for name in changed:
            bundles[name].scorer()  # this may fail; nothing has changed so far
        self._alarms.apply_config(config)
        for name in [*self.machines]:
            if name not in specs or name in changed:
                self._stop(name, "reloaded" if name in specs else "disabled")
        self._slow_paths = {name: one for name, one in self._slow_paths.items() if name in config.machines}
        for key in set(self._microphones) - set(keys.values()):
            self._close_microphone(key)
        self._failures = {name: one for name, one in self._failures.items() if name in specs and name not in changed}
        self._config, self._bundles, self._specs, self._keys = config, bundles, specs, keys
        for name in changed:
            self._start(name)
        self._publish_stopped()

    def poll(self) -> None:
        """Process the sound that the microphones have captured."""
        for key, microphone in self._microphones.items():
            self._guard.run(f"microphone {key[0]}", microphone.poll)
        for name, machine in [*self.machines.items()]:
            self._attempt(name, machine.poll)
        self._unreaped = [(selector, process) for selector, process in self._unreaped if not process.is_gone()]
        now = time.monotonic()
        for name, failure in [*self._failures.items()]:
            if name not in self.machines and now >= failure.retry_at:
                self._start(name)

    def wait_s(self) -> float:
        """How long the next `poll` can wait: until a tick should be full, but not long while a microphone is not open."""
        if any(one.ring is None for one in self._microphones.values()):
            return OPENING_POLL_S
        due_s = min((machine.tick_due_s for machine in self.machines.values()), default=math.inf)
        return max(MIN_POLL_S, min(due_s + LATE_S - time.monotonic(), MAX_POLL_S))

    def set_clocks(self, clock: Clock) -> None:
        """Align the times of all machines with the wall clock."""
        now = time.monotonic()
        for microphone in self._microphones.values():
            microphone.set_clocks(clock.now(now), monotonic_s=now, synced=clock.synced)

    def slow_paths(self) -> dict[str, SavedSlowPath]:
        """The state of the slow paths, for the next run."""
        now = {name: SavedSlowPath.of(one.bundle.id, one.slow_path.state()) for name, one in self.machines.items()}
        return {**self._slow_paths, **now}

    def stop(self) -> None:
        """End all open events and child processes."""
        for name in [*self.machines]:
            self._stop(name, "shutdown")
        for key in [*self._microphones]:
            self._close_microphone(key)
        ends = time.monotonic() + REAP_S
        for _, process in self._unreaped:
            process.wait(max(0.0, ends - time.monotonic()))

    @property
    def is_started(self) -> bool:
        """Whether every machine has either sound or a reason for its absence."""
        return all(machine.is_started for machine in self.machines.values())

    def stalled(self) -> list[str]:
        """The machines that should make progress and do not, in words."""
        stalled = [f"{name} for {machine.stalled_s():.0f} s" for name, machine in self.machines.items() if machine.stalled_s()]
        return [*stalled, *(f"{name} is not running" for name in self._not_running())]

    def status(self) -> dict[str, Any]:
        """The status of each machine and each microphone."""
        failed = {
            name: self._unknown_status(name, FAILED, bundle=self._bundles[name].id, trouble=one.error)
            for name, one in self._failures.items()
            if name not in self.machines
        }
        broken = {
            name: self._unknown_status(name, reason, bundle=None, trouble="its bundle was refused at the start, see the log")
            for name, (state, reason) in self._stopped.items()
            if state == "unknown"
        }
        return {
            "machines": {name: machine.status() for name, machine in self.machines.items()} | failed | broken,
            "microphones": [_microphone_status(one) for one in self._microphones.values()],
        }

    def in_words(self) -> str:
        """The machines' states in one line."""
        running = [machine.in_words() for machine in self.machines.values()]
        failed = [f"{name} unknown ({FAILED})" for name in self._failures if name not in self.machines]
        stopped = [
            name + (f" {state} ({reason})" if state == "unknown" else f" {state}")
            for name, (state, reason) in self._stopped.items()
        ]
        return "; ".join([*running, *failed, *stopped])

    def scored_s(self) -> dict[str, float]:
        """Seconds of sound that each running machine has scored since its start."""
        return {name: machine.scored_s for name, machine in self.machines.items()}

    def counts(self) -> dict[str, Any]:
        """The lost sound of all machines, and the greatest age of a machine's last block."""
        ages = [machine.age_s for machine in self.machines.values()]
        return {
            "overruns": sum(one.counts.overruns for one in self._microphones.values()),
            "gap_s": round(sum(machine.gap_s for machine in self.machines.values()), 3),
            "last_frame_age_s": round(max(ages), 1) if ages else None,
        }

    @property
    def n_failures(self) -> int:
        """Unexpected errors of machines and microphones."""
        return self._n_failures + self._guard.n_failures + sum(one.counts.faults for one in self._microphones.values())

    @property
    def microphones(self) -> list[Microphone]:
        """The microphones in use."""
        return list(self._microphones.values())

    def _not_running(self) -> list[str]:
        """The machines that should run and neither do nor wait for a restart: an error interrupted `apply_config`."""
        return [name for name in self._specs if name not in self.machines and name not in self._failures]

    def _start(self, name: str) -> None:
        self._attempt(name, lambda: self.machines.update({name: self._make(name)}))

    def _make(self, name: str) -> Machine:
        bundle, key = self._bundles[name], self._keys[name]
        if key not in self._microphones:
            selector, rate_hz, wanted_hz = key
            left = next((one for one in self._unreaped if one[0] == selector), None)
            if left is not None:
                self._unreaped.remove(left)
            unreaped = None if left is None else left[1]
            self._microphones[key] = Microphone(
                selector, wanted_rate_hz=wanted_hz, rate_hz=rate_hz, unreaped=unreaped, launch=self._launch
            )
        return Machine(
            name,
            self._specs[name],
            bundle,
            self._microphones[key],
            self._outlet,
            node=self._node,
            alarm=self._alarms[name],
            clock=self._alarms.clock,
            recorder=make_clip_recorder(bundle, self._clips, self._config.clips),
            slow_state=self._slow_paths[name].state(bundle.id) if name in self._slow_paths else None,
            sinks=() if self._notifications is None else (self._notifications.sink(name, self._alarms[name]),),
            observe=self._observe,
        )

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        """Call the action; treat an unexpected error as a failure of this machine."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 (logged there)
            self._fail(name, error)

    def _stop(
        self, name: str, reason: Literal["reloaded", "disabled", "shutdown", "restarted"], *, state_reason: str | None = None
    ) -> None:
        machine = self.machines.pop(name)
        self._guard.run(f"{name}: stop", lambda: machine.stop(reason, state_reason=state_reason))
        self._guard.run(f"{name}: slow path", lambda: self._save_slow_path(name, machine))

    def _fail(self, name: str, error: Exception) -> None:
        """Stop a machine after an unexpected error and schedule its restart. The traceback of a repeated error is logged once."""
        self._n_failures += 1
        now, text = time.monotonic(), f"{type(error).__name__}: {error}"
        before = self._failures.get(name)
        in_a_row = before is not None and now - before.retry_at < MAX_RETRY_S
        wait_s = min(2.0 * before.wait_s, MAX_RETRY_S) if before is not None and in_a_row else RETRY_S
        is_new = before is None or before.error != text
        message = "%s: unexpected error: %s; restarting in %.0f s"
        log.error(message, name, text, wait_s, exc_info=error if is_new else None)
        self._failures[name] = _Failure(text, wait_s, now)
        if name in self.machines:
            self._stop(name, "restarted", state_reason=FAILED)
        else:
            self._publish_state(name, "unknown", FAILED)

    def _save_slow_path(self, name: str, machine: Machine) -> None:
        self._slow_paths[name] = SavedSlowPath.of(machine.bundle.id, machine.slow_path.state())

    def _close_microphone(self, key: Key) -> None:
        microphone = self._microphones.pop(key)

        def close() -> None:
            if (process := microphone.close(timeout_s=0.0)) is not None:
                self._unreaped.append((key[0], process))

        self._guard.run(f"microphone {key[0]}: close", close)

    def _publish_stopped(self) -> None:
        """Publish the state of each machine that should not run, and the reason, where they are new."""
        stopped = {name: self._stopped_state(name) for name in self._config.machines if name not in self._specs}
        for name, (state, reason) in stopped.items():
            if self._stopped.get(name) != (state, reason):
                self._publish_state(name, state, reason)
        self._stopped = stopped

    def _stopped_state(self, name: str) -> tuple[State, str]:
        if not self._config.machines[name].enabled:
            return "disabled", "configuration"
        return ("disabled", "command") if name in self._alarms.disabled else ("unknown", BROKEN)

    def _publish_state(self, name: str, state: State, reason: str) -> None:
        """Publish the state of a machine that is not running."""
        now = datetime.now(timezone.utc)
        timeline = Anchor(utc=EPOCH, sample_rate_hz=1, synced=False)  # it has no sound
        show = None if self._show_state is None else partial(self._show_state, name)
        publisher = StatePublisher(self._outlet, machine=name, threshold=None, timeline=timeline, watch=show)
        publisher.publish_state(state, reason, now)
        publisher.publish_available(False)

    def _unknown_status(self, name: str, reason: str, *, bundle: str | None, trouble: str) -> dict[str, Any]:
        """The status of a machine that should run and does not."""
        return {
            **dict.fromkeys(("severity", "ratio", "rms_dbfs", "slow_path", "slow_path_missing_h")),
            "state": "unknown",
            "reason": reason,
            "bundle": bundle,
            "microphone": self._config.machines[name].microphone,
            "trouble": trouble,
            "gap_s": 0.0,
        }


def microphone_keys(machines: Mapping[str, MachineConfig], bundles: Mapping[str, Bundle]) -> dict[str, Key]:
    """The key of each machine's microphone. Machines that share a microphone request the highest of their rates."""
    shared = {name: (settings.microphone, settings.microphone_rate_hz) for name, settings in machines.items()}
    rates_hz = {name: bundles[name].manifest.front_end.sample_rate_hz for name in machines}
    return {name: (*own, max(rates_hz[other] for other in shared if shared[other] == own)) for name, own in shared.items()}


def _microphone_status(microphone: Microphone) -> dict[str, Any]:
    trouble = microphone.trouble
    return {
        "selector": microphone.selector,
        "device": microphone.device,
        "pid": microphone.pid,
        "trouble": None if trouble is None else trouble.reason,
        "detail": None if trouble is None else trouble.detail,
        **asdict(microphone.counts),
    }
