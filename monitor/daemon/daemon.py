"""The daemon: microphones in, MQTT out, for as long as the computer is on."""

import asyncio
import logging
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from monitor.bundle import Bundle
from monitor.clips.service import ClipService
from monitor.clips.store import ClipStore
from monitor.clips.worker import BackgroundWorker
from monitor.clock import Clock
from monitor.config import Config, load_config
from monitor.daemon.alarms import Alarms
from monitor.daemon.bundles import load_bundles, machine_info, service_problems
from monitor.daemon.calibration_job import CalibrationJob
from monitor.daemon.commands import Commands, Refused
from monitor.daemon.control import NAME, ControlError, ControlServer, Reply
from monitor.daemon.ha_discovery import HomeAssistantDiscovery, birth_topic, is_birth
from monitor.daemon.health import Health, versions
from monitor.daemon.notify import Notifier
from monitor.daemon.shared_microphone import lend, microphone_status
from monitor.daemon.state_file import SavedSlowPaths, ServiceState, StateFile
from monitor.daemon.supervisor import Supervisor
from monitor.errors import ConfigError, StethosError
from monitor.files import lock
from monitor.mqtt.client import Received
from monitor.mqtt.messages import Calibrate, Command, FetchClip, HealthMessage, InfoMessage
from monitor.mqtt.sink import MqttSink

log = logging.getLogger(__name__)
HOOKS = "MONITOR_TEST_HOOKS"
POLL_S = 0.1
HEALTH_EVERY_S = 60.0
SLOW_PATHS_EVERY_S = 3600.0  # what is learned on the spot is written down
READY_WITHIN_S = 1.5  # a microphone that has neither sound nor a fault to tell by then is not waited for
FLUSH_S = 2.5  # to deliver what is left when stopped,
KEEP_S = 0.5  # to write down what people did,
CLIPS_S = 1.0  # and to write the clips of events that are ended
FIXED = ("node", "mqtt", "home_assistant", "clips", "private", "state_dir", "runtime_dir")  # these need a restart


class Daemon:
    """Everything that runs, wired together.

    One thread polls the microphones and their machines ten times a second. The network and the disk have threads of
    their own behind the MQTT sink, PortAudio has a process per microphone.
    """

    def __init__(self, config_path: Path | None, environment: Mapping[str, str]) -> None:
        self._config_path = config_path
        self._environment = environment
        self._notifier = Notifier()
        self._config, bundles = self._load(fall_back=True)
        self._lock = _be_the_only_one(self._config.state_dir)
        self._health = Health(self._config.state_dir)
        self._clock = Clock()
        self._keepsake = StateFile(
            self._config.state_dir / "kept.json", ServiceState(), what="acknowledgements, snoozes, floods and disabled machines"
        )
        self._slow_paths = StateFile(
            self._config.state_dir / "slow_paths.json", SavedSlowPaths(), what="the normal levels learned on the spot"
        )
        self._slow_paths_at = time.monotonic() + SLOW_PATHS_EVERY_S
        self._alarms = Alarms(self._keepsake.loaded.alarms)
        self._commands = Commands(self._act, self._answer)
        self._calibrator = CalibrationJob(config_path, environment, self._calibrated)
        birth = birth_topic(self._config)
        self._sink = MqttSink(
            self._config.mqtt,
            node=self._config.node,
            state_dir=self._config.state_dir,
            on_command=self._commands.arrive,
            subscriptions={} if birth is None else {birth: self._hear_birth},
            clock_synced=self._clock.synced,
        )
        self._announcer = HomeAssistantDiscovery(self._sink, left=self._keepsake.loaded.topics)
        self._errands = BackgroundWorker("clips")
        self._archive = self._make_archive()
        self._supervisor = Supervisor(
            self._sink, self._alarms, self._archive, node=self._config.node, slow_paths=self._slow_paths.loaded.machines
        )
        self._arrange(bundles)
        self._sink.start()
        self._control = ControlServer(
            self._config.runtime_dir / NAME,
            {
                "status": lambda _: Reply(self._status()),
                "microphones": lambda _: microphone_status(self._supervisor.microphones),
                "reload": lambda _: self._ask_reload(),
                "ring": lambda request: lend(self._supervisor.microphones, request, private=self._config.private),
            },
        )
        self._stopped = False
        self._reload_asked = asyncio.Event()

    async def run(self) -> None:
        """Listen until SIGTERM or SIGINT; SIGHUP reloads."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        reloading = loop.create_task(self._reload_when_asked())
        try:
            await self._control.start()
            await self._listen()
        finally:
            reloading.cancel()
            await self._calibrator.stop()
            await self._control.stop()
            self._shut_down()

    async def _listen(self) -> None:
        ready_by = time.monotonic() + READY_WITHIN_S
        second_at = health_at = 0.0
        ready = False
        while not self._stopped:
            if not self._is_made_to_hang():
                self._supervisor.poll()
            if self._commands.process_pending():
                self._keep()
            now = time.monotonic()
            if not ready and (now >= ready_by or self._supervisor.is_started):
                ready = True
                self._notifier.send("READY=1")
                log.info("ready: %s", self._supervisor.in_words())
            if ready and now >= second_at:
                second_at = now + 1.0
                self._every_second()
            if ready and now >= health_at:
                health_at = now + HEALTH_EVERY_S
                self._sink.publish_transient("health", self._health_message().text, retain=True)
            await asyncio.sleep(POLL_S)

    def _is_made_to_hang(self) -> bool:
        """Tests stop the pipeline, not the process, by a file; the environment of a shipped service does not allow it."""
        return HOOKS in self._environment and (self._config.runtime_dir / "hang").exists()

    def _every_second(self) -> None:
        """Feed the watchdog, but only while everything advances."""
        self._clock.poll(self._sink.clock_corrected)
        self._announcer.poll(time.monotonic())
        self._keep()
        if time.monotonic() >= self._slow_paths_at:
            self._keep_slow_paths()
        stalled = self._supervisor.stalled()
        if stalled is None:
            self._notifier.send("WATCHDOG=1")
        counts = self._sink.counts
        kept = (
            f"{counts.queued} events in memory only ({counts.outbox_error})"
            if counts.outbox_error
            else f"{counts.queued} events kept"
        )
        broker = "broker connected" if counts.connected else f"broker away, {kept}"
        self._notifier.status(f"stalled: {stalled}" if stalled else f"{self._supervisor.in_words()}; {broker}")

    def _stop(self) -> None:
        self._stopped = True

    def _ask_reload(self) -> Reply:
        self._reload_asked.set()
        return Reply({})

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            await self._reload()

    async def _reload(self) -> None:
        """Take the new configuration and bundles as a whole, or keep the old ones and say why."""
        self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            config, bundles = await asyncio.to_thread(self._load)
            self._change_to(config, bundles)
            log.info("reloaded: %s", self._supervisor.in_words())
        except StethosError as error:
            log.error("reload refused, the old settings stay: %s", error)
        except Exception:
            log.exception("reload failed")
        finally:
            self._notifier.send("READY=1")

    def _change_to(self, config: Config, bundles: Mapping[str, Bundle]) -> None:
        changed = [key for key in FIXED if getattr(config, key) != getattr(self._config, key)]
        if changed:
            log.warning("%s: takes effect with a restart (systemctl restart stethos)", ", ".join(changed))
        self._config = config.model_copy(update={key: getattr(self._config, key) for key in FIXED})
        self._arrange(bundles)

    def _arrange(self, bundles: Mapping[str, Bundle]) -> None:
        self._bundles = bundles
        self._supervisor.apply_config(self._config, bundles)
        self._announcer.apply_config(self._config, bundles)
        self._say_info(bundles)
        self._keep()

    def _make_archive(self) -> ClipService:
        clips = self._config.clips
        store = ClipStore(self._config.state_dir / "clips", max_bytes=round(clips.max_mb * 1e6)) if clips.enabled else None
        return ClipService(store, run=self._errands.put, present=self._sink.publish_retained, private=self._config.private)

    def _act(self, machine: str, command: Command) -> None:
        if isinstance(command, FetchClip):
            self._fetch(machine, command.id)
            return
        if isinstance(command, Calibrate):
            self._calibrate(machine, command)
            return
        self._alarms.act(machine, command, time.time())
        self._supervisor.apply_config(self._config, self._bundles)

    def _fetch(self, machine: str, event_id: str) -> None:
        self._must_be_configured(machine)
        listened = self._supervisor.machines.get(machine)
        so_far = None if listened is None else listened.so_far(event_id)
        send = partial(self._sink.publish_transient, f"{machine}/clip/{event_id}", qos=1)
        reason = self._archive.fetch(machine, event_id, so_far=so_far, now=time.monotonic(), send=send)
        if reason is not None:
            raise Refused(reason)

    def _calibrate(self, machine: str, command: Calibrate) -> None:
        self._must_be_configured(machine)
        if not command.undo and machine not in self._supervisor.machines:
            raise Refused("the machine is disabled")
        if command.reference:
            if command.undo or command.force:
                raise Refused("reference must be given without undo and force")
            self._supervisor.machines[machine].slow_path.restart()
            self._keep_slow_paths()
            return
        self._calibrator.start(machine, command)

    def _must_be_configured(self, machine: str) -> None:
        if machine not in self._config.machines:
            raise Refused(f"the machine must be one of {', '.join(self._config.machines)}, got {machine}")

    def _calibrated(self, machine: str, command: Calibrate, reason: str | None, result: str | None) -> None:
        self._commands.answer(machine, "calibrate", reason=reason, request=command.request, result=result)

    def _answer(self, topic: str, text: str) -> None:
        self._sink.publish_transient(topic, text, qos=1)

    def _hear_birth(self, message: Received) -> None:
        if is_birth(message):
            self._announcer.home_assistant_started(time.monotonic())

    def _keep(self) -> None:
        self._keepsake.keep(ServiceState(alarms=self._alarms.kept(), topics=self._announcer.topics))

    def _keep_slow_paths(self) -> None:
        self._slow_paths_at = time.monotonic() + SLOW_PATHS_EVERY_S
        self._slow_paths.keep(SavedSlowPaths(machines=self._supervisor.slow_paths()))

    def _load(self, *, fall_back: bool = False) -> tuple[Config, dict[str, Bundle]]:
        config = load_config(self._config_path, self._environment)
        if wrong := service_problems(config):
            raise ConfigError(wrong[0])
        return config, load_bundles(config, fall_back=fall_back)

    def _say_info(self, bundles: Mapping[str, Bundle]) -> None:
        machines = {name: machine_info(settings, bundles.get(name)) for name, settings in self._config.machines.items()}
        self._sink.publish_retained("info", InfoMessage(versions=versions(), machines=machines).text)

    def _health_message(self) -> HealthMessage:
        counts = self._sink.counts
        return HealthMessage(
            **self._health.read(),
            **self._supervisor.counts(),
            queued=counts.queued,
            dropped=counts.dropped,
            parked=counts.parked,
            last_parked=counts.last_parked,
            clips_lost=self._errands.n_dropped + self._errands.n_failed,
            commands_dropped=self._commands.n_dropped,
            clock_synced=self._clock.synced,
        )

    def _status(self) -> dict[str, Any]:
        """What the tools show."""
        about = {"node": self._config.node, "state_dir": str(self._config.state_dir.absolute())}
        return {**about, "mqtt": asdict(self._sink.counts), **self._supervisor.status()}

    def _shut_down(self) -> None:
        self._notifier.send("STOPPING=1")
        self._keep_slow_paths()
        self._supervisor.stop()
        self._keep()
        self._errands.close(CLIPS_S)
        left = self._sink.stop(FLUSH_S)
        self._keepsake.close(KEEP_S)
        self._slow_paths.close(KEEP_S)
        log.info("stopped%s", f"; {left} messages are kept until the next start" if left else "")


def _be_the_only_one(state_dir: Path) -> int | None:
    """Nobody else may use the outbox meanwhile; a state directory that cannot be written has none."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        return lock(state_dir / "lock")
    except BlockingIOError:
        raise ControlError(
            f"{state_dir}: another service keeps its events here; stop it first (systemctl stop stethos)"
        ) from None
    except OSError as error:
        log.warning("%s: cannot be written: %s", state_dir, error.strerror)
        return None


def run_daemon(config_path: Path | None, environment: Mapping[str, str]) -> int:
    """Run until told to stop; returns the exit status."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    asyncio.run(Daemon(config_path, environment).run())
    return 0
