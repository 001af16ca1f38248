"""Several machines in one daemon: a failure of one microphone is reported for its machine, and no other loses a sample."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from monitor.daemon.control.socket import NAME, request
from tests.broker import PERSISTENT, running_broker
from tests.daemon.daemon_process import DaemonProcess
from tests.rig import virtual_microphone, virtual_microphones
from tests.subscriber import Subscriber
from tests.waiting import wait_until

RATE_HZ = 16000
TROUBLE_S = 20 if os.environ.get("LONG_TESTS") else 8
DETECTED_S = 5.0
ATTEMPTS = 3  # a busy computer may lose sound by itself; what a neighbour does, it does every time


@dataclass
class Service:
    daemon: DaemonProcess
    listener: Subscriber

    def status(self, machine: str) -> dict[str, Any]:
        return self._ask()["machines"][machine]  # type: ignore[no-any-return]

    def microphone(self, name: str) -> dict[str, Any]:
        return next(one for one in self._ask()["microphones"] if one["selector"] == f"name:{name}")

    def _ask(self) -> dict[str, Any]:
        reply = request(self.daemon.folder / "run" / NAME, {"do": "status"})
        assert reply is not None
        return reply.body

    def wait_for_state(self, machine: str, state: str, *, since: float = 0.0, within_s: float = 60.0) -> None:
        topic = f"{machine}/state"
        wait_until(
            lambda: [one for one in self.listener.ending(topic, since=since) if one.json["state"] == state],
            within_s=within_s,
            what=f"{machine} {state}\n{self.daemon.log[-3000:]}",
        )

    def until_available(self, machine: str, payload: str, *, since: float) -> float:
        """How long after `since` that was published."""

        def found() -> list[float]:
            return [one.at for one in self.listener.ending(f"{machine}/availability", since=since) if one.payload == payload]

        wait_until(found, within_s=40.0, what=f"{machine} {payload}\n{self.daemon.log[-3000:]}")
        return found()[0] - since

    def capture(self, name: str) -> psutil.Process:
        """The process that captures from this device."""
        return psutil.Process(self.microphone(name)["pid"])


@contextmanager
def service(folder: Path, bundle: Path, machines: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[Service]:
    """The daemon with these machines, ready."""
    (folder / "daemon").mkdir()
    daemon = DaemonProcess(folder / "daemon", environment)
    with (
        running_broker(folder, PERSISTENT) as broker,
        Subscriber(broker, topic="stethos/#", session="listener") as listener,
        daemon,
    ):
        entries = [f"  {name}: {{bundle: {bundle}, microphone_rate_hz: {RATE_HZ}, {rest}}}" for name, rest in machines.items()]
        daemon.config.write_text(f"node: pi\nmqtt: {{port: {broker.port}}}\nmachines:\n" + "\n".join(entries) + "\n")
        daemon.start().ready()
        yield Service(daemon, listener)


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory, demo_normal: Path) -> Path:
    """Enough of it for a whole test."""
    path = tmp_path_factory.mktemp("sound") / "normal.wav"
    soundfile.write(path, np.tile(soundfile.read(demo_normal, dtype="float32")[0], 40), RATE_HZ)
    return path


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, demo_fault: Path) -> Path:
    """The demo's fan while its bearing is worn."""
    path = tmp_path_factory.mktemp("sound") / "faulty.wav"
    soundfile.write(path, np.tile(soundfile.read(demo_fault, dtype="float32")[0][60 * RATE_HZ : 80 * RATE_HZ], 30), RATE_HZ)
    return path


def test_one_machines_dead_microphone_does_not_cost_another_a_sample(tmp_path: Path, normal: Path, demo_bundle: Path) -> None:
    machines = {name: f"microphone: 'name:{name}'" for name in ("left", "right")}
    with (
        virtual_microphones(tmp_path / "audio", *machines, rate_hz=RATE_HZ) as rack,
        service(tmp_path, demo_bundle, machines, rack.environment) as running,
    ):
        left, _ = rack.microphones
        for one in rack.microphones:
            one.play(normal)
        for name in machines:
            running.wait_for_state(name, "normal")
        for how in ("frozen", "killed"):
            for attempt in range(ATTEMPTS):
                before, since = _lost(running, "right"), time.monotonic()
                if how == "frozen":
                    left.freeze()
                else:
                    left.kill()
                assert running.until_available("left", "offline", since=since) < DETECTED_S
                time.sleep(TROUBLE_S)
                back = time.monotonic()
                if how == "frozen":
                    left.thaw()
                else:
                    left.start()
                    left.play(normal)
                running.until_available("left", "online", since=back)
                running.wait_for_state("left", "normal", since=back)
                assert running.status("left")["gap_s"] > TROUBLE_S
                assert {one.json["state"] for one in running.listener.ending("right/state", since=since)} <= {"normal"}
                assert running.listener.ending("right/availability", since=since) == []
                if _lost(running, "right") == before:
                    break
                assert attempt < ATTEMPTS - 1, f"{how}: lost {before} before, {_lost(running, 'right')} after"


def _lost(running: Service, name: str) -> tuple[float, int, int, int]:
    """All that a machine has missed so far."""
    microphone = running.microphone(name)
    return running.status(name)["gap_s"], microphone["lost_frames"], microphone["overruns"], microphone["restarts"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_capture_process_that_dies_or_hangs_is_told_replaced_and_its_gap_counted(
    tmp_path: Path, normal: Path, demo_bundle: Path, number: signal.Signals
) -> None:
    with (
        virtual_microphone(tmp_path / "audio", rate_hz=RATE_HZ) as microphone,
        service(tmp_path, demo_bundle, {"fan": "microphone: 'name:mic'"}, microphone.environment) as running,
    ):
        microphone.play(normal)
        running.wait_for_state("fan", "normal")
        before, old = running.status("fan")["gap_s"], running.capture("mic")
        since = time.monotonic()
        old.send_signal(number)
        assert running.until_available("fan", "offline", since=since) < DETECTED_S
        deaf_s = running.until_available("fan", "online", since=since)
        running.wait_for_state("fan", "normal", since=since)
        assert running.capture("mic").pid != old.pid
        assert not old.is_running() or old.status() == psutil.STATUS_ZOMBIE
        assert running.status("fan")["gap_s"] - before == pytest.approx(deaf_s, abs=1.5)
        assert running.microphone("mic")["restarts"] >= 1


def test_two_machines_share_a_device_by_its_channels(tmp_path: Path, normal: Path, faulty: Path, demo_bundle: Path) -> None:
    both = np.stack([soundfile.read(path, frames=120 * RATE_HZ, dtype="float32")[0] for path in (faulty, normal)], axis=1)
    soundfile.write(tmp_path / "both.wav", both, RATE_HZ)
    machines = {name: f"microphone: 'name:mic', channel: {channel}" for channel, name in enumerate(("worn", "well"), start=1)}
    with (
        virtual_microphone(tmp_path / "audio", rate_hz=RATE_HZ, channels=2) as microphone,
        service(tmp_path, demo_bundle, machines, microphone.environment) as running,
    ):
        microphone.play(tmp_path / "both.wav")
        running.wait_for_state("well", "normal")
        running.wait_for_state("worn", "anomaly")
        assert len(psutil.Process(running.daemon.pid).children()) == 1
        wait_until(running.listener.events, within_s=20.0, what="the event, which goes by way of the disk")
        assert {event["machine"] for event in running.listener.events()} == {"worn"}
        assert {running.status("well")[key] for key in ("state", "severity")} == {"normal", None}
        assert [running.status("worn")[key] for key in ("state", "severity")] == ["anomaly", "alarm"]


def test_a_microphone_that_comes_back_under_another_index_is_found_by_its_name(
    tmp_path: Path, normal: Path, faulty: Path, demo_bundle: Path
) -> None:
    with (
        virtual_microphones(tmp_path / "audio", "other", "mine", rate_hz=RATE_HZ) as rack,
        service(tmp_path, demo_bundle, {"fan": "microphone: 'name:mine'"}, rack.environment) as running,
    ):
        other, mine = rack.microphones
        other.play(faulty)  # would be an anomaly
        mine.play(normal)
        running.wait_for_state("fan", "normal")
        before = _index(running)
        since = time.monotonic()
        mine.kill()
        rack.plug(mine, other)
        running.until_available("fan", "offline", since=since)
        back = time.monotonic()
        mine.start()
        mine.play(normal)
        running.wait_for_state("fan", "normal", since=back)
        assert _index(running) != before
        assert running.listener.events() == []


def _index(running: Service) -> int:
    reply = request(running.daemon.folder / "run" / NAME, {"do": "microphones"})
    assert reply is not None
    return int(reply.body["microphones"][0]["device"]["index"])
