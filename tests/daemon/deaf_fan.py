"""The real daemon with a machine that is one long anomaly, every sound being taken for silence; people deal with it."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.broker import Broker, running_broker, say
from tests.daemon.daemon_process import DaemonProcess
from tests.rig import virtual_microphone
from tests.subscriber import Subscriber
from tests.waiting import wait_until

RATE_HZ = 16000
SOUND_S = 1200.0  # at least
BASE = "stethos/pi"


@dataclass
class Service:
    """The daemon with a machine whose every sound is taken for its silence, which is its anomaly."""

    daemon: DaemonProcess
    broker: Broker
    watcher: Subscriber
    bundle: Path

    def configure(self, *machines: str, more: str = "") -> None:
        entry = (
            f"{{bundle: {self.bundle}, microphone: 'name:mic', microphone_rate_hz: {RATE_HZ}, "
            "channel: %d, idle: {below_dbfs: 0, means: anomaly}}"
        )
        lines = [f"  {name}: {entry % channel}" for channel, name in enumerate(machines, start=1)]
        mqtt = f"mqtt: {{port: {self.broker.port}, reconnect_min_s: 0.2, reconnect_max_s: 1.0}}"
        self.daemon.config.write_text("\n".join(["node: pi", mqtt, more, "machines:", *lines]) + "\n")

    def until(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, within_s=60.0, what=f"{what}\n{self.daemon.log[-3000:]}")

    def order(self, command: str, payload: str = "{}", *, machine: str = "fan") -> dict[str, Any]:
        """Send a command; the answer to it, and not to another one before it."""
        self.until(lambda: self.watcher.on(f"{BASE}/status")[-1:] == ["online"], "online")
        n_before = len(self.answers(machine))

        def found() -> list[dict[str, Any]]:
            return [answer for answer in self.answers(machine)[n_before:] if answer["command"] == command]

        say(self.broker, f"{BASE}/{machine}/set/{command}", payload)
        self.until(found, f"an answer to {command}")
        return found()[0]

    def answers(self, machine: str = "fan") -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.watcher.on(f"{BASE}/{machine}/response")]

    def until_state(self, **values: object) -> None:
        self.until(
            lambda: values.items() <= self.states()[-1].items() if self.states() else False, f"{values}, {self.states()[-1:]}"
        )

    def states(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.watcher.on(f"{BASE}/fan/state")]

    def anomaly(self) -> str:
        return self.watcher.on(f"{BASE}/fan/anomaly")[-1]

    def restart(self) -> None:
        self.daemon.stop()
        self.daemon.told.clear()
        self.daemon.start().ready()


def long_sound(folder: Path, sound: Path, *, channels: int = 1) -> Path:
    """The sound again and again, longer than any test."""
    samples, rate_hz = soundfile.read(sound, dtype="float32")
    again = np.tile(samples, math.ceil(SOUND_S * rate_hz / len(samples)))
    soundfile.write(folder / "sound.wav", np.repeat(again[:, None], channels, axis=1), rate_hz)
    return folder / "sound.wav"


@contextmanager
def running_service(folder: Path, bundle: Path, sound: Path) -> Iterator[Service]:
    """Its microphone, broker and subscriber run; the daemon is to be configured and started."""
    with virtual_microphone(folder / "audio", rate_hz=RATE_HZ, channels=2) as microphone, running_broker(folder) as broker:
        microphone.play(long_sound(folder, sound, channels=2))
        (folder / "daemon").mkdir()
        daemon = DaemonProcess(folder / "daemon", microphone.environment)
        with Subscriber(broker, "-T", "stethos/+/+/set/#") as watcher, daemon:
            yield Service(daemon, broker, watcher, bundle)
