"""The daemon, which wires all running parts together."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from monitor.audio.capture_process import CaptureLauncher
from monitor.bundle import Bundle
from monitor.clips.clip import EventClip
from monitor.clips.service import ClipService
from monitor.clips.store import ClipStore
from monitor.clips.worker import BackgroundWorker
from monitor.clock import Clock
from monitor.daemon.alarms import Alarms
from monitor.daemon.bundles.adaptation_job import Adaptation, AdaptationJob
from monitor.daemon.bundles.current import CurrentBundles
from monitor.daemon.bundles.learning_reports import LearningReports
from monitor.daemon.bundles.reload import Reload, Settings, load_settings
from monitor.daemon.control.audit_log import AuditLog
from monitor.daemon.control.commands import Arrived, Commands, Refused
from monitor.daemon.control.shared_microphone import Listening, microphone_status, share_sound
from monitor.daemon.control.socket import NAME, ControlError, ControlServer, Reply
from monitor.daemon.doorbell import Doorbell
from monitor.daemon.guard import Guard
from monitor.daemon.ha_discovery import HomeAssistantDiscovery, birth_topic, is_birth
from monitor.daemon.health import Health
from monitor.daemon.node_report import Losses, NodeReport
from monitor.daemon.notify import Notifier
from monitor.daemon.observer import Observer
from monitor.daemon.state_file import SavedSlowPaths, ServiceState, StateFile
from monitor.daemon.supervisor import Supervisor
from monitor.daemon.trial_alarm import TrialAlarms
from monitor.daemon.wakeable_timer import WakeableTimer
from monitor.daemon.watch.fan_out import FanOut
from monitor.daemon.watch.live_events import LiveEvents
from monitor.daemon.watch.machine_watch import MachineWatch, machine_data
from monitor.daemon.watch.requests import Requests
from monitor.daemon.watch.settings_check import SettingsCheck
from monitor.daemon.watch.watchers import Watchers
from monitor.events.event import EventClock, rfc3339
from monitor.files import lock
from monitor.history.history import History
from monitor.log_limit import LogLimit
from monitor.mqtt.broker import Broker, NoBroker
from monitor.mqtt.client import Received
from monitor.mqtt.messages import Acknowledge, Calibrate, Command, FetchClip, Learn, LearningMessage, ResponseMessage, Snooze
from monitor.mqtt.sink import MqttSink
from monitor.notify.service import Notifications
from monitor.threads import Probe, Watchdog

log = logging.getLogger(__name__)
START_POLL_S = 0.05  # until it is ready
COMMANDS_EVERY_S = 0.1
HEALTH_EVERY_S = 60.0
SLOW_PATHS_EVERY_S = 3600.0  # how often the learned levels are saved
READY_WITHIN_S = 1.5  # after this, READY no longer waits for a microphone with neither sound nor a fault
FLUSH_S = 2.5  # time at shutdown to deliver queued messages
SAVE_S = 0.5  # time at shutdown to save the state
CLIPS_S = 1.0  # time at shutdown to write the last clips
HISTORY_S = 1.0  # time at shutdown to write the unfinished hour
DISK_PATIENCE_S = 120.0  # for one disk job; memory cards can be slow


class Daemon:
    """Polls the microphones and their machines whenever a tick should be full, on one thread.

    Network and disk I/O run on separate threads. PortAudio runs in one process per microphone.
    """

    def __init__(self, config_path: Path | None, environment: Mapping[str, str], launcher: CaptureLauncher) -> None:
        self._notifier = Notifier()
        self._launcher = launcher
        broken: dict[str, str] = {}
        settings = load_settings(config_path, environment, broken=broken)
        self._config = settings.config
        for reason in broken.values():
            log.error("%s", reason)
        self._lock = _lock_state_dir(self._config.state_dir)
        self._clock = Clock()
        self._state_file = StateFile(
            self._config.state_dir / "kept.json", ServiceState(), what="acknowledgements, snoozes, floods and disabled machines"
        )
        self._slow_paths = StateFile(
            self._config.state_dir / "slow_paths.json", SavedSlowPaths(), what="the learned normal levels"
        )
        self._slow_paths_at = time.monotonic() + SLOW_PATHS_EVERY_S
        self._health_at = 0.0  # at once
        self._guard = Guard()
        self._alarms = Alarms(self._state_file.loaded.alarms)
        self._audit_log = AuditLog(self._config.state_dir / "commands.log")
        self._timer = WakeableTimer()
        self._commands = Commands(self._act, self._answer, self._audit_log.record, wake=self._timer.wake)
        self._adaptation = AdaptationJob(
            config_path, environment, self._adapted, self._learning_progress, state_dir=self._config.state_dir
        )
        self._doorbell = Doorbell(self._config.runtime_dir)
        self._sink = self._make_broker()
        self._current = CurrentBundles(
            lambda message: self._sink.publish_retained("bundle/current", message.text), lambda: self._supervisor.scored_s()
        )
        self._discovery = HomeAssistantDiscovery(self._sink, left=self._state_file.loaded.topics)
        self._notifications = Notifications(self._config.state_dir, clock=self._alarms.clock, make_alarm=self._alarms.follower)
        self._clip_worker = BackgroundWorker("clips")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watchers = Watchers(self._config.node, lambda: self._report.node())
        self._clips = self._make_clips()
        self._learning = LearningReports(self._publish_learning, self._show_learning)
        self._live_events = LiveEvents(self._watchers, self._clips)
        self._history = History(self._config.state_dir, self._config.history, clock_synced=self._clock.synced)
        self._trial_alarms = TrialAlarms(
            FanOut(self._sink, [self._history.record, self._live_events.publish, self._current.count], self._guard),
            self._sink,
            self._notifications,
            config=lambda: self._config,
            show=self._live_events.publish,
            n_viewers=lambda: self._watchers.n_clients,
        )
        self._supervisor = Supervisor(
            self._trial_alarms,
            self._alarms,
            self._clips,
            node=self._config.node,
            slow_paths=self._slow_paths.loaded.machines,
            notifications=self._notifications,
            observe=self._observe,
            show_state=self._watchers.publish_state,
            launch=launcher,
        )
        self._watchdog = Watchdog()
        self._listening = Listening()
        self._report = NodeReport(
            Health(self._config.state_dir),
            self._sink,
            self._supervisor,
            config=lambda: self._config,
            bundles=lambda: self._bundles,
            losses=self._losses,
            listening=self._listening,
            learning=self._learning.of,
        )
        self._reload = Reload(
            config_path,
            environment,
            self._notifier,
            current=lambda: Settings(self._config, self._bundles),
            apply=self._apply_settings,
        )
        self._apply_settings(settings)
        self._watchdog.watch(*(one.probe(patience_s=DISK_PATIENCE_S) for one in (self._clip_worker, self._notifications)))
        files = (self._state_file, self._slow_paths, self._audit_log)
        self._watchdog.watch(*(file.probe(patience_s=DISK_PATIENCE_S) for file in files))
        self._watchdog.watch(self._history.probe(patience_s=DISK_PATIENCE_S))
        self._watchdog.watch(self._reload.probe(patience_s=DISK_PATIENCE_S), self._control_probe())
        self._watchdog.watch(*self._sink.probes(patience_s=DISK_PATIENCE_S))
        self._stalled: list[str] = []
        self._sink.start()
        self._history.start()
        requests = Requests(
            self._watchers,
            self._commands,
            self._clips,
            self._history,
            SettingsCheck(config_path, environment),
            complete=self._live_events.complete,
            config=lambda: self._config,
            snapshot=self._clip_snapshot,
        )
        self._control = ControlServer(
            self._config.runtime_dir / NAME,
            {
                "status": lambda _: Reply(self._report.status()),
                "microphones": lambda _: microphone_status(self._supervisor.microphones),
                "reload": lambda _: self._request_reload(),
                "stream": self._share_sound,
                "test-alarm": self._trial_alarms.start,
                **requests.handlers(),
            },
        )
        self._stopped = False

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; SIGHUP reloads."""
        self._loop = loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload.request)
        self._reload.start()
        try:
            await self._control.start()
            await self._poll()
        finally:
            self._reload.stop()
            async with AsyncExitStack() as stack:  # from the last to the first, whatever fails
                stack.callback(self._shut_down)
                stack.push_async_callback(self._control.stop)
                stack.push_async_callback(self._watchers.stop)
                stack.callback(self._stop_machines)
                stack.push_async_callback(self._adaptation.stop)

    async def _poll(self) -> None:
        ready_by = time.monotonic() + READY_WITHIN_S
        second_at = 0.0
        ready = False
        while not self._stopped:
            self._guard.run("machines", self._supervisor.poll)
            had_commands = self._commands.n_waiting > 0
            self._guard.run("commands", self._process_commands)
            now = time.monotonic()
            if not ready and (now >= ready_by or self._supervisor.is_started):
                ready = True
                self._notifier.send("READY=1")
                log.info("ready: %s", self._supervisor.in_words())
                self._launcher.discard()
                self._guard.run("learning: resume", self._adaptation.resume)
            if ready and now >= second_at:
                second_at = now + 1.0
                self._guard.run("service", self._every_second)
            if had_commands:
                await asyncio.sleep(COMMANDS_EVERY_S)  # nothing can cut this short, so a flood of them is limited
            elif not ready:
                await self._timer.wait(START_POLL_S)
            else:
                await self._timer.wait(max(0.0, min(self._supervisor.wait_s(), second_at - time.monotonic())))

    def _process_commands(self) -> None:
        if self._commands.process_pending():
            self._save()

    def _every_second(self) -> None:
        """Feed systemd's watchdog while every machine and every thread advances, and nothing here fails."""
        self._clock.poll(self._clock_corrected)
        self._supervisor.set_clocks(self._clock)
        self._history.poll(time.time())
        self._discovery.poll(time.monotonic())
        self._save()
        self._audit_log.flush()
        now = time.monotonic()
        self._doorbell.poll(now)
        self._current.poll(now)
        if now >= self._slow_paths_at:
            self._save_slow_paths()
        if now >= self._health_at:
            self._health_at = now + HEALTH_EVERY_S
            self._sink.publish_transient("health", self._report.health().text, retain=True)
        self._guard.run("watch", lambda: self._update_watchers(now))
        stalled = [*self._supervisor.stalled(), *self._watchdog.stalled(now)]
        if stalled and not self._stalled:
            log.error("stalled: %s", ", ".join(stalled))
        self._stalled = stalled
        if not stalled:
            self._notifier.send("WATCHDOG=1")
        self._notifier.status(f"stalled: {', '.join(stalled)}" if stalled else self._report.in_words())

    def _update_watchers(self, now: float) -> None:
        self._watchers.poll(now)
        if self._report.has_changed():
            self._watchers.publish_node()

    def _clock_corrected(self, offset_s: float, *, synced: bool) -> None:
        self._sink.clock_corrected(offset_s, synced=synced)
        self._history.clock_corrected(offset_s, synced=synced)

    def _stop(self) -> None:
        self._stopped = True
        self._timer.wake()

    def _share_sound(self, request: dict[str, Any]) -> Reply:
        microphones, private = self._supervisor.microphones, self._config.private
        return share_sound(microphones, request, private=private, listening=self._listening)

    def _request_reload(self) -> Reply:
        self._reload.request()
        return Reply({})

    def _control_probe(self) -> Probe:
        """The watchdog's view of the control socket. It waits for requests, so it is not required to advance."""
        return Probe(
            name="control socket",
            is_alive=lambda: self._control.is_alive,
            advanced=time.monotonic_ns,
            n_failures=lambda: self._control.n_failed,
            patience_s=DISK_PATIENCE_S,
        )

    def _apply_settings(self, settings: Settings) -> str:
        """Run the configured machines, and return what runs. If this fails, the old settings stay in effect as a whole."""
        config, bundles, installed = settings
        self._supervisor.apply_config(config, bundles)
        self._config, self._bundles = config, bundles
        self._discovery.apply_config(config, bundles)
        self._notifications.apply_config(config)
        self._sink.publish_retained("info", self._report.info().text)
        self._guard.run("bundle/current", lambda: self._current.apply_config(config, bundles, installed))
        machines = {name: machine_data(settings, bundles.get(name)) for name, settings in config.machines.items()}
        self._guard.run("watch: machines", lambda: self._watchers.apply_config(machines))
        self._guard.run("learning", lambda: self._learning.apply_config(machines, bundles, time.monotonic()))
        self._guard.run("learning: machines", self._apply_to_learning)
        self._save()
        self._timer.wake()
        return self._supervisor.in_words()

    def _apply_to_learning(self) -> None:
        running = [name for name in self._bundles if name not in self._alarms.disabled]
        self._adaptation.apply_config({name: self._config.machines[name] for name in running})

    def _make_broker(self) -> Broker:
        if self._config.mqtt is None:
            return NoBroker()
        birth = birth_topic(self._config)
        return MqttSink(
            self._config.mqtt,
            node=self._config.node,
            state_dir=self._config.state_dir,
            on_command=self._commands.arrive,
            subscriptions={
                **({} if birth is None else {birth: self._on_birth}),
                f"{self._config.mqtt.prefix}/{self._config.node}/bundle/desired": self._doorbell.arrive,
            },
            clock_synced=self._clock.synced,
        )

    def _make_clips(self) -> ClipService:
        clips = self._config.clips
        store = ClipStore(self._config.state_dir / "clips", max_bytes=round(clips.max_mb * 1e6)) if clips.enabled else None
        return ClipService(
            store,
            run=self._clip_worker.put,
            present=self._present,
            private=self._config.private,
            changed=self._clip_changed,
        )

    def _present(self, machine: str, event_id: str, picture: bytes) -> None:
        """Publish and send the picture of an event; called on the thread of the clips."""
        self._sink.publish_retained(f"{machine}/snapshot", picture)
        self._notifications.show(machine, event_id, picture)

    def _clip_changed(self, event_id: str) -> None:
        """Called on the thread that writes clips."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._live_events.changed, event_id)

    def _clip_snapshot(self, event_id: str) -> EventClip | None:
        found = (machine.clip_snapshot(event_id) for machine in self._supervisor.machines.values())
        return next((clip for clip in found if clip is not None), None)

    def _observe(self, machine: str, bundle: Bundle, timeline: EventClock) -> Observer:
        return MachineWatch(machine, bundle, timeline, watchers=self._watchers, history=self._history, guard=self._guard)

    def _act(self, arrived: Arrived, command: Command) -> None:
        machine = arrived.machine
        is_local = arrived.by is not None and not arrived.by.startswith("web:")
        is_change = not isinstance(command, Acknowledge | Snooze | FetchClip)
        if is_change and not self._config.remote_changes and not is_local:
            raise Refused("commands that change detection are forbidden by the configuration (remote_changes: false)")
        if isinstance(command, FetchClip):
            self._fetch(machine, command.id)
            return
        if isinstance(command, Calibrate | Learn):
            self._adapt(machine, command)
            return
        self._alarms.act(machine, command)
        if isinstance(command, Acknowledge) and (event_id := self._alarms[machine].event) is not None:
            at = rfc3339(datetime.now(timezone.utc))
            self._history.acknowledge(event_id, at)
            self._live_events.acknowledge(event_id, at)
        self._supervisor.apply_config(self._config, self._bundles)
        self._apply_to_learning()

    def _fetch(self, machine: str, event_id: str) -> None:
        self._check_configured(machine)
        if self._config.mqtt is None:
            raise Refused("there is no broker to send the clip to (mqtt: null)")
        running = self._supervisor.machines.get(machine)
        snapshot = None if running is None else running.clip_snapshot(event_id)
        send = partial(self._sink.publish_transient, f"{machine}/clip/{event_id}", qos=1)
        reason = self._clips.fetch(machine, event_id, snapshot=snapshot, now=time.monotonic(), send=send)
        if reason is not None:
            raise Refused(reason)

    def _adapt(self, machine: str, command: Adaptation) -> None:
        self._check_configured(machine)
        if isinstance(command, Learn) and command.stop:
            self._adaptation.cancel(machine)
            return
        is_undo = isinstance(command, Calibrate) and command.undo
        if not is_undo and machine not in self._supervisor.machines:
            raise Refused("the machine is disabled, or is being restarted after an error")
        if isinstance(command, Calibrate) and command.reference:
            if command.undo or command.force:
                raise Refused("reference must be given without undo and force")
            self._supervisor.machines[machine].slow_path.restart()
            self._save_slow_paths()
            return
        self._adaptation.start(machine, command)

    def _check_configured(self, machine: str) -> None:
        if machine not in self._config.machines:
            raise Refused(f"the machine must be one of {', '.join(self._config.machines)}, got {machine}")

    def _adapted(self, machine: str, command: Adaptation, reason: str | None, result: str | None) -> None:
        name = "learn" if isinstance(command, Learn) else "calibrate"
        self._commands.answer(machine, name, reason=reason, request=command.request, result=result)

    def _learning_progress(self, machine: str, data: dict[str, Any] | None) -> None:
        self._guard.run("learning", lambda: self._learning.progress(machine, data, time.monotonic()))

    def _publish_learning(self, machine: str, message: LearningMessage | None) -> None:
        if message is None:
            self._sink.clear_retained(f"{machine}/learning")
        else:
            self._sink.publish_retained(f"{machine}/learning", message.text)

    def _show_learning(self, machine: str, message: LearningMessage | None) -> None:
        data = None if message is None else message.model_dump(by_alias=True)
        self._guard.run("watch: learning", lambda: self._watchers.publish_learning(machine, data))

    def _answer(self, machine: str, response: ResponseMessage) -> None:
        self._sink.publish_transient(f"{machine}/response", response.text, qos=1)
        self._guard.run("watch: response", lambda: self._watchers.publish_response(machine, response))

    def _on_birth(self, message: Received) -> None:
        if is_birth(message):
            self._discovery.home_assistant_started(time.monotonic())

    def _save(self) -> None:
        self._state_file.save(ServiceState(alarms=self._alarms.state(), topics=self._discovery.topics))

    def _save_slow_paths(self) -> None:
        self._slow_paths_at = time.monotonic() + SLOW_PATHS_EVERY_S
        self._slow_paths.save(SavedSlowPaths(machines=self._supervisor.slow_paths()))

    def _losses(self) -> Losses:
        return Losses(
            clips_lost=self._clip_worker.n_dropped + self._clip_worker.n_failed,
            commands_dropped=self._commands.n_dropped,
            history_lost=self._history.n_lost,
            history_error=self._history.error,
            **self._notifications.counts,
            failures=sum(one.n_failures for one in (self._supervisor, self._watchdog, self._commands, self._guard)),
            clock_synced=self._clock.synced,
        )

    def _stop_machines(self) -> None:
        """End the open events while clients are still connected."""
        self._notifier.send("STOPPING=1")
        self._guard.run("stop: slow paths", self._save_slow_paths)
        self._guard.run("stop: test alarm", self._trial_alarms.end)
        self._guard.run("stop: machines", self._supervisor.stop)

    def _shut_down(self) -> None:
        steps: dict[str, Callable[[], object]] = {
            "state": self._save,
            "clips": partial(self._clip_worker.close, CLIPS_S),
            "notifications": partial(self._notifications.stop, SAVE_S),
            "mqtt": partial(self._sink.stop, FLUSH_S),
            "cleared topics": self._save,
            "history": partial(self._history.close, HISTORY_S),
            "state file": partial(self._state_file.close, SAVE_S),
            "slow path file": partial(self._slow_paths.close, SAVE_S),
            "audit log": partial(self._audit_log.close, SAVE_S),
        }
        for name, step in steps.items():
            self._guard.run(f"stop: {name}", step)
        counts = self._sink.counts
        n_left = 0 if counts is None else counts.queued
        log.info("stopped%s", f"; {n_left} messages will be sent after the next start" if n_left else "")


def _lock_state_dir(state_dir: Path) -> int | None:
    """Lock the state directory for this process; None if the directory is not writable."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return lock(state_dir / "lock")
    except BlockingIOError:
        raise ControlError(f"{state_dir}: another service uses this directory; stop it first (systemctl stop stethos)") from None
    except OSError as error:
        log.warning("%s: cannot be written: %s", state_dir, error.strerror)
        return None


def run_daemon(config_path: Path | None, environment: Mapping[str, str], launcher: CaptureLauncher) -> int:
    """Run until stopped by a signal; return the exit status. `launcher` starts the capture processes."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the daemon can reload
    daemon = Daemon(config_path, environment, launcher)
    for handler in logging.getLogger().handlers:
        handler.addFilter(LogLimit())
    asyncio.run(daemon.run())
    return 0
