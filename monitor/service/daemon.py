"""The daemon: microphones in, MQTT out, for as long as the computer is on."""

import asyncio
import logging
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monitor.bundle import Bundle
from monitor.config import Config, load_config
from monitor.core.errors import StethosError
from monitor.service.clock import Clock
from monitor.service.control import NAME, ControlServer, Reply
from monitor.service.health import Health, versions
from monitor.service.held import describe, lend
from monitor.service.notify import Notifier
from monitor.service.supervisor import Supervisor, load_bundles
from monitor.sinks.courier import Courier
from monitor.sinks.jsonl import to_json

log = logging.getLogger(__name__)
HOOKS = "MONITOR_TEST_HOOKS"
POLL_S = 0.1
HEALTH_EVERY_S = 60.0
READY_WITHIN_S = 1.5  # a microphone that has neither sound nor a fault to tell by then is not waited for
FLUSH_S = 4.0  # to deliver what is left when stopped


class Daemon:
    """Everything that runs, wired together.

    One thread polls the microphones and their machines ten times a second. The network and the disk have threads of
    their own behind the courier, PortAudio has a process per microphone.
    """

    def __init__(self, config_path: Path | None, environment: Mapping[str, str]) -> None:
        self._config_path = config_path
        self._environment = environment
        self._notifier = Notifier()
        self._config, bundles = self._load()
        self._health = Health(self._config.state_dir)
        self._clock = Clock()
        self._courier = Courier(
            self._config.mqtt, node=self._config.node, state_dir=self._config.state_dir, clock_synced=self._clock.synced
        )
        self._courier.start()
        self._supervisor = Supervisor(self._courier, node=self._config.node)
        self._supervisor.arrange(self._config, bundles)
        self._say_info(bundles)
        self._control = ControlServer(
            self._config.runtime_dir / NAME,
            {
                "status": lambda _: Reply(self._status()),
                "microphones": lambda _: describe(self._supervisor.microphones),
                "ring": lambda request: lend(self._supervisor.microphones, request),
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
        await self._control.start()
        try:
            await self._listen()
        finally:
            reloading.cancel()
            await self._control.stop()
            self._shut_down()

    async def _listen(self) -> None:
        ready_by = time.monotonic() + READY_WITHIN_S
        second_at = health_at = 0.0
        ready = False
        while not self._stopped:
            if not self._is_made_to_hang():
                self._supervisor.poll()
            now = time.monotonic()
            if not ready and (now >= ready_by or self._supervisor.settled):
                ready = True
                self._notifier.send("READY=1")
                log.info("ready: %s", self._supervisor.in_words())
            if ready and now >= second_at:
                second_at = now + 1.0
                self._every_second()
            if ready and now >= health_at:
                health_at = now + HEALTH_EVERY_S
                self._courier.passing("health", to_json(self._health_message()))
            await asyncio.sleep(POLL_S)

    def _is_made_to_hang(self) -> bool:
        """Tests stop the pipeline, not the process, by a file; the environment of a shipped service does not allow it."""
        return HOOKS in self._environment and (self._config.runtime_dir / "hang").exists()

    def _every_second(self) -> None:
        """Feed the watchdog, but only while everything advances."""
        self._clock.look(self._courier.clock_corrected)
        stalled = self._supervisor.stalled()
        if stalled is None:
            self._notifier.send("WATCHDOG=1")
        counts = self._courier.counts
        broker = "broker connected" if counts.connected else f"broker away, {counts.queued} events kept"
        self._notifier.status(f"stalled: {stalled}" if stalled else f"{self._supervisor.in_words()}; {broker}")

    def _stop(self) -> None:
        self._stopped = True

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
        finally:
            self._notifier.send("READY=1")

    def _change_to(self, config: Config, bundles: Mapping[str, Bundle]) -> None:
        fixed = ("node", "mqtt", "state_dir", "runtime_dir")
        changed = [key for key in fixed if getattr(config, key) != getattr(self._config, key)]
        if changed:
            log.warning("%s: takes effect with a restart (systemctl restart stethos)", ", ".join(changed))
        removed = set(self._config.machines) - set(config.machines)
        self._supervisor.arrange(config, bundles)
        for name in removed:
            for topic in ("state", "anomaly", "availability"):
                self._courier.withdraw(f"{name}/{topic}")
        self._config = config
        self._say_info(bundles)

    def _load(self) -> tuple[Config, dict[str, Bundle]]:
        config = load_config(self._config_path, self._environment)
        return config, load_bundles(config)

    def _say_info(self, bundles: Mapping[str, Bundle]) -> None:
        machines = {
            name: {
                "name": settings.name,
                "microphone": settings.microphone,
                "bundle": bundles[name].id if name in bundles else None,
            }
            for name, settings in self._config.machines.items()
        }
        self._courier.present("info", to_json({"schema": 1, "versions": versions(), "machines": machines}))

    def _health_message(self) -> dict[str, Any]:
        counts = self._courier.counts
        return {
            **self._health.read(),
            "queued": counts.queued,
            "dropped": counts.dropped,
            "clock_synced": self._clock.synced,
            **self._supervisor.counts(),
        }

    def _status(self) -> dict[str, Any]:
        """What the tools show."""
        return {"node": self._config.node, "mqtt": asdict(self._courier.counts), **self._supervisor.status()}

    def _shut_down(self) -> None:
        self._notifier.send("STOPPING=1")
        self._supervisor.stop()
        left = self._courier.stop(FLUSH_S)
        log.info("stopped%s", f"; {left} messages are kept until the next start" if left else "")


def run_daemon(config_path: Path | None, environment: Mapping[str, str]) -> int:
    """Run until told to stop; returns the exit status."""
    asyncio.run(Daemon(config_path, environment).run())
    return 0
