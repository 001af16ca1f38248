"""Commands and Home Assistant's discovery through the real daemon: a real microphone, a real broker, judged by a subscriber."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.broker import Broker, Watcher, running_broker, say
from tests.rig import virtual_microphone
from tests.service.daemon_process import DaemonProcess, wait_for

RATE_HZ = 16000
BASE = "stethos/pi"
ANNOUNCED = "homeassistant/device/pi"


@dataclass
class Service:
    """The daemon with a machine whose every sound is taken for its silence, which is its anomaly."""

    daemon: DaemonProcess
    broker: Broker
    watcher: Watcher
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
        wait_for(condition, within_s=60.0, what=f"{what}\n{self.daemon.log[-3000:]}")

    def order(self, command: str, payload: str = "{}", *, machine: str = "fan") -> dict[str, Any]:
        """Send a command; the answer to it."""
        n_before = len(self.answers(machine))
        say(self.broker, f"{BASE}/{machine}/set/{command}", payload)
        self.until(lambda: len(self.answers(machine)) > n_before, f"an answer to {command}")
        return self.answers(machine)[n_before]

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


@pytest.fixture
def service(tmp_path: Path, demo_bundle: Path, demo_normal: Path) -> Iterator[Service]:
    with virtual_microphone(tmp_path / "audio", rate_hz=RATE_HZ, channels=2) as microphone, running_broker(tmp_path) as broker:
        sound, _ = soundfile.read(demo_normal, dtype="float32")
        soundfile.write(tmp_path / "sound.wav", np.repeat(np.tile(sound, 30)[:, None], 2, axis=1), RATE_HZ)
        microphone.play(tmp_path / "sound.wav")
        (tmp_path / "daemon").mkdir()
        daemon = DaemonProcess(tmp_path / "daemon", microphone.environment)
        with Watcher(broker) as watcher, daemon:
            yield Service(daemon, broker, watcher, demo_bundle)


def test_people_deal_with_an_anomaly(service: Service) -> None:
    service.configure("fan")
    service.daemon.start().ready()
    assert service.order("ack")["reason"] == "there is no anomaly to acknowledge"
    service.until_state(state="anomaly", acknowledged=False)
    assert service.order("ack")["accepted"]
    service.until_state(state="anomaly", acknowledged=True)
    assert service.anomaly() == "ON"
    assert service.order("snooze", '{"duration_s": 5}')["accepted"]
    service.until_state(state="anomaly", snoozed=True)
    service.until(lambda: service.anomaly() == "OFF", "the snooze")
    service.until(lambda: service.anomaly() == "ON", "the end of the snooze")
    assert service.states()[-1]["snoozed_until"] is None
    service.restart()
    service.until_state(state="anomaly", acknowledged=True)
    assert service.order("disable")["accepted"]
    service.until_state(state="disabled", reason="command", acknowledged=False)
    service.until(lambda: service.anomaly() == "None", "no anomaly")
    service.until(lambda: service.watcher.on(f"{BASE}/fan/availability")[-1] == "offline", "offline")
    ends = [event["end_reason"] for event in map(json.loads, service.watcher.on(f"{BASE}/fan/event")) if event["end_reason"]]
    assert ends == ["shutdown", "disabled"]
    say(service.broker, f"{BASE}/fan/set/enable", "{}", "--retain")  # is carried out once,
    service.until(lambda: service.states()[-1]["state"] != "disabled", "listening again")
    assert service.order("disable")["accepted"]
    service.restart()  # but not again after every connection
    service.until_state(state="disabled", reason="command")
    service.until(lambda: "must not be retained" in (service.answers()[-1]["reason"] or ""), "a refusal")
    assert service.states()[-1]["state"] == "disabled"
    assert service.order("enable")["accepted"]
    service.until_state(state="anomaly")


def test_what_nobody_may_say_is_refused_and_harmless(service: Service) -> None:
    service.configure("fan")
    service.daemon.start().ready()
    assert service.order("enable", machine="saw")["reason"] == "the machine must be one of fan, got saw"
    assert service.order("calibrate")["reason"] == "not supported by this version"
    assert service.order("snooze", '{"duration_s": 1000000}')["reason"] == "duration_s must be in 0..86400, got 1000000"
    say(service.broker, f"{BASE}/fan/set/disable", 5_000 * " ")
    service.until(lambda: "at most 4096 bytes" in (service.answers()[-1]["reason"] or ""), "a refusal")
    to = ["-h", "127.0.0.1", "-p", str(service.broker.port), "-q", "1", "-t", f"{BASE}/fan/set/disable"]
    subprocess.run(["mosquitto_pub", *to, "-s"], input=2_000_000 * b" ", check=True, timeout=20)
    service.until(lambda: "sends a message of 2000030 bytes, at most 65536 are taken" in service.daemon.log, "hanging up")
    service.until(lambda: service.watcher.on(f"{BASE}/status")[-2:] == ["offline", "online"], "the return")
    service.until_state(state="anomaly")
    assert service.daemon.log.count("accepted") == 0


def test_home_assistant_is_told_of_every_machine_and_when_one_leaves(service: Service) -> None:
    service.configure("fan", "pump")
    service.daemon.start().ready()
    for device in ("Node", "fan", "pump"):
        service.until(lambda device=device: service.watcher.on(f"{ANNOUNCED}/{device}/config"), device)  # type: ignore[misc]
    ours = service.watcher.on(f"{ANNOUNCED}/fan/config")
    say(service.broker, "homeassistant/status", "online")
    service.until(lambda: len(service.watcher.on(f"{ANNOUNCED}/fan/config")) > len(ours), "being announced again")
    assert set(service.watcher.on(f"{ANNOUNCED}/fan/config")) == set(ours)
    service.daemon.stop()
    service.configure("fan")  # while the service does not run
    service.daemon.start()
    gone = [f"{ANNOUNCED}/pump/config", *(f"{BASE}/pump/{leaf}" for leaf in ("state", "anomaly", "availability"))]
    for topic in gone:
        service.until(lambda topic=topic: service.watcher.on(topic)[-1] == "", topic)  # type: ignore[misc]
    assert service.watcher.on(f"{ANNOUNCED}/fan/config")[-1] == ours[0]
    service.daemon.stop()
    kept = json.loads((service.daemon.folder / "state" / "kept.json").read_text())
    assert not [topic for topic in kept["topics"] if "pump" in topic]
    service.configure("fan", more="home_assistant: {enabled: false}")
    service.daemon.start()
    service.until(lambda: service.watcher.on(f"{ANNOUNCED}/fan/config")[-1] == "", "silence")
    service.until(lambda: service.watcher.on(f"{ANNOUNCED}/Node/config")[-1] == "", "silence of the node")
