"""The whole daemon on a real PortAudio microphone and a real broker, judged by what a subscriber sees."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from monitor.daemon.control.socket import NAME, request
from tests.broker import PERSISTENT, Broker, running_broker
from tests.daemon.daemon_process import DaemonProcess
from tests.replay.command import monitor
from tests.rig import VirtualMicrophone, virtual_microphone
from tests.subscriber import Subscriber
from tests.waiting import wait_until

LONG = bool(os.environ.get("LONG_TESTS"))
RATE_HZ = 16000  # of the recordings: nobody resamples on the way
PARTS = (0, 15), (56, 84), (88, 128)  # normal, faulty, repaired: seconds of the demo's recording


@dataclass
class Rig:
    microphone: VirtualMicrophone
    broker: Broker
    daemon: DaemonProcess
    listener: Subscriber

    def since(self, end: str, at: float) -> list[str]:
        return [one.payload for one in self.listener.ending(end, since=at)]

    def status(self) -> dict[str, Any]:
        """What the service says of itself; its log leaves out lines that repeat."""
        reply = request(self.daemon.folder / "run" / NAME, {"do": "status"}, timeout_s=20.0)
        assert reply is not None
        return reply.body

    def wait_for(self, end: str, payload: str, *, since: float, within_s: float) -> float:
        """Wait for a payload that begins so, or a state of that name; seconds after `since` at which it came."""

        def found() -> list[float]:
            return [one.at for one in self.listener.ending(end, since=since) if _says(one.payload, payload)]

        wait_until(
            found, within_s=within_s, what=f"{end} {payload}; heard {self.since(end, since)[-3:]}\n{self.daemon.log[-3000:]}"
        )
        return found()[0] - since


def _says(payload: str, what: str) -> bool:
    return json.loads(payload)["state"] == what if payload.startswith("{") else payload == what


@pytest.fixture
def rig(tmp_path: Path, demo_bundle: Path) -> Iterator[Rig]:
    with virtual_microphone(tmp_path / "audio", rate_hz=RATE_HZ) as microphone, running_broker(tmp_path, PERSISTENT) as broker:
        (tmp_path / "daemon").mkdir()
        daemon = DaemonProcess(tmp_path / "daemon", microphone.environment)
        daemon.config.write_text(
            f"node: pi\nmqtt: {{port: {broker.port}, keepalive_s: 5, reconnect_min_s: 0.2, reconnect_max_s: 1.0}}\n"
            f"machines:\n  fan: {{bundle: {demo_bundle}, microphone: 'name:mic', microphone_rate_hz: {RATE_HZ}}}\n"
        )
        with Subscriber(broker, topic="stethos/#", session="listener") as listener, daemon:
            yield Rig(microphone, broker, daemon, listener)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, demo_fault: Path) -> Path:
    """The demo's recording; without --long only what is needed for a start and an end."""
    if LONG:
        return demo_fault
    path = tmp_path_factory.mktemp("scene") / "scene.flac"
    sound, _ = soundfile.read(demo_fault, dtype="float32")
    soundfile.write(path, np.concatenate([sound[a * RATE_HZ : b * RATE_HZ] for a, b in PARTS]), RATE_HZ)
    return path


def test_a_microphone_gives_the_same_events_as_the_recording(rig: Rig, scene: Path, demo_bundle: Path) -> None:
    replayed = monitor("--replay", scene, "--model", demo_bundle).events
    assert [(event["event_type"], event["end_reason"]) for event in replayed][-1] == ("end", "cleared")
    rig.daemon.start().ready()
    rig.wait_for("fan/availability", "online", since=0.0, within_s=20.0)
    began_utc, player = time.time(), rig.microphone.play(scene)
    player.wait(300)
    wait_until(lambda: len(rig.listener.events()) >= len(replayed), within_s=20.0, what=f"events\n{rig.daemon.log}")
    live = rig.listener.events()
    assert [(e["event_type"], e["seq"], e["end_reason"]) for e in live] == [
        (e["event_type"], e["seq"], e["end_reason"]) for e in replayed
    ]
    for heard, expected in zip(live, replayed, strict=True):
        # Ticks begin elsewhere than in the recording: a fault that is still growing is a little larger or smaller.
        within = 0.02 if heard["event_type"] == "end" else 0.05
        assert heard["peak_ratio"] == pytest.approx(expected["peak_ratio"], rel=within), (heard, expected)
        onset_s = _unix(heard["onset_ts"]) - began_utc
        assert onset_s == pytest.approx(_unix(expected["onset_ts"]), abs=1.5), (heard, expected)


def _unix(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def normal_for_ever(folder: Path, demo_normal: Path) -> Path:
    """Enough normal sound for a whole test."""
    normal, _ = soundfile.read(demo_normal, dtype="float32")
    path = folder / "normal.wav"
    soundfile.write(path, np.tile(normal, 60), RATE_HZ)
    return path


def test_a_microphone_that_fails_is_said_and_heard_again(rig: Rig, tmp_path: Path, demo_normal: Path) -> None:
    sound = normal_for_ever(tmp_path, demo_normal)
    rig.microphone.play(sound)
    rig.daemon.start().ready()
    rig.wait_for("fan/state", "normal", since=0.0, within_s=30.0)
    for _ in range(5 if LONG else 1):
        for how in ("killed", "frozen", "broker", "both"):
            _one_round(rig, how, sound)
    ids = [(one.json["id"], one.json["seq"]) for one in rig.listener.ending("/event")]
    assert len(ids) == len(set(ids))
    assert rig.listener.events() == []  # normal sound all along
    status, took_s = rig.daemon.stop()
    assert status == 0
    assert took_s < 5.0
    wait_until(
        lambda: rig.since("pi/status", 0.0)[-1:] == ["offline"],
        within_s=5.0,
        what=f"offline {rig.listener.ending('pi/status')} {rig.daemon.log}",
    )
    assert rig.since("fan/anomaly", 0.0)[-1] == "None"
    assert rig.since("fan/availability", 0.0)[-1] == "offline"


def _one_round(rig: Rig, how: str, sound: Path) -> None:
    began = time.monotonic()
    if how in ("broker", "both"):
        rig.broker.kill()
    if how in ("killed", "both"):
        rig.microphone.kill()
    if how == "frozen":
        rig.microphone.freeze()
    if how in ("killed", "frozen"):
        assert rig.wait_for("fan/availability", "offline", since=began, within_s=15.0) < 8.0
        rig.wait_for("fan/state", "unknown", since=began, within_s=5.0)
        deaf_since = time.monotonic()
        time.sleep(2.0)
        assert "normal" not in [json.loads(text)["state"] for text in rig.since("fan/state", deaf_since)]
        assert rig.since("fan/anomaly", began)[-1:] == ["None"]
    else:
        time.sleep(6.0)
    if how in ("broker", "both"):
        rig.broker.start()
        wait_until(lambda: rig.status()["mqtt"]["connected"], within_s=20.0, what="a new connection")
    back = time.monotonic()
    if how in ("killed", "both"):
        rig.microphone.start()
        rig.microphone.play(sound)
    if how == "frozen":
        rig.microphone.thaw()
    if how != "broker":
        wait_until(lambda: rig.status()["microphones"][0]["trouble"] is None, within_s=20.0, what="sound")
        rig.wait_for("fan/availability", "online", since=back, within_s=20.0)
        wait_until(lambda: rig.status()["machines"]["fan"]["state"] == "normal", within_s=40.0, what="normal")
        wait_until(
            lambda: rig.listener.ending("fan/state")[-1].json["state"] == "normal", within_s=20.0, what="normal, as it is heard"
        )
        wait_until(lambda: rig.listener.ending("fan/anomaly")[-1].payload == "OFF", within_s=20.0, what="OFF, as it is heard")


def test_an_anomaly_that_lasts_is_one_event_whatever_fails_meanwhile(rig: Rig, tmp_path: Path, demo_fault: Path) -> None:
    """It begins while the broker is dead, goes on behind an unplugged and a frozen microphone, and ends with the service."""
    sound, _ = soundfile.read(demo_fault, dtype="float32")
    faulty = tmp_path / "faulty.wav"
    soundfile.write(faulty, np.tile(sound[56 * RATE_HZ : 84 * RATE_HZ], 10), RATE_HZ)
    rig.daemon.start().ready()
    rig.wait_for("fan/availability", "online", since=0.0, within_s=20.0)
    rig.broker.kill()
    rig.microphone.play(faulty)
    wait_until(lambda: " STARTED: " in rig.daemon.log, within_s=60.0, what="an event without a broker")
    rig.broker.start()
    wait_until(rig.listener.events, within_s=20.0, what="the event after the broker's return")
    for how in ("killed", "frozen"):
        at = time.monotonic()
        if how == "killed":
            rig.microphone.kill()
        else:
            rig.microphone.freeze()
        rig.wait_for("fan/availability", "offline", since=at, within_s=15.0)
        back = time.monotonic()
        if how == "killed":
            rig.microphone.start()
            rig.microphone.play(faulty)
        else:
            rig.microphone.thaw()
        rig.wait_for("fan/state", "anomaly", since=back, within_s=40.0)
    assert rig.daemon.stop()[0] == 0
    wait_until(lambda: rig.listener.events()[-1]["event_type"] == "end", within_s=10.0, what="the end")
    events = rig.listener.events()
    assert len({event["id"] for event in events}) == 1
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert [event["event_type"] for event in events][:1] == ["start"]
    assert events[-1]["end_reason"] == "shutdown"
    assert len({event["onset_ts"] for event in events}) == 1
    assert "normal" not in [one.json["state"] for one in rig.listener.ending("fan/state")]


def test_two_machines_and_a_reload(rig: Rig, tmp_path: Path, demo_normal: Path, demo_bundle: Path) -> None:
    """A second machine without a microphone disturbs nobody; a reload keeps what has not changed."""
    rig.microphone.play(normal_for_ever(tmp_path, demo_normal))
    text = rig.daemon.config.read_text()
    rig.daemon.config.write_text(text + f"  pump: {{bundle: {demo_bundle}, microphone: 'name:nothing-of-that-name'}}\n")
    rig.daemon.start().ready()
    rig.wait_for("pump/availability", "offline", since=0.0, within_s=10.0)
    rig.wait_for("pump/state", "unknown", since=0.0, within_s=10.0)
    assert rig.listener.ending("pump/state")[-1].json["reason"] == "microphone_absent"
    rig.wait_for("fan/state", "normal", since=0.0, within_s=30.0)
    at = time.monotonic()
    rig.daemon.config.write_text(text + "  pump: {bundle: nowhere}\n")
    rig.daemon.signal(signal.SIGHUP)
    wait_until(lambda: "reload refused, the old settings stay" in rig.daemon.log, within_s=10.0, what="refusal")
    rig.daemon.config.write_text(text)
    rig.daemon.signal(signal.SIGHUP)
    wait_until(lambda: "reloaded: fan normal" in rig.daemon.log, within_s=10.0, what=f"reload\n{rig.daemon.log}")
    rig.wait_for("pump/availability", "", since=at, within_s=5.0)
    assert {state["state"] for state in map(json.loads, rig.since("fan/state", at))} <= {"normal"}
    assert rig.since("fan/availability", at) == []


def test_a_restart_leaves_no_normal_of_before_while_it_is_deaf(rig: Rig, tmp_path: Path, demo_normal: Path) -> None:
    rig.microphone.play(normal_for_ever(tmp_path, demo_normal))
    rig.daemon.start().ready()
    rig.wait_for("fan/state", "normal", since=0.0, within_s=30.0)
    rig.daemon.kill()
    rig.microphone.freeze()
    at = time.monotonic()
    rig.daemon.start()
    rig.wait_for("fan/state", "starting", since=at, within_s=10.0)
    rig.wait_for("fan/state", "unknown", since=at, within_s=15.0)
    assert rig.since("fan/availability", at)[-1] == "offline"
    assert rig.since("fan/anomaly", at)[-1] == "None"
    assert "normal" not in [json.loads(text)["state"] for text in rig.since("fan/state", at)]


def test_a_second_service_is_refused_before_it_touches_anything(rig: Rig, tmp_path: Path) -> None:
    rig.daemon.start().ready()
    rig.wait_for("fan/availability", "online", since=0.0, within_s=20.0)
    at = time.monotonic()
    rival = DaemonProcess(tmp_path / "daemon", rig.microphone.environment, runs=tmp_path / "rival")
    with rival:
        rival.start()
        wait_until(lambda: rival.status is not None, within_s=20.0, what="its end")
        assert rival.status == 1
        assert "another service uses this directory" in rival.log
    time.sleep(1.0)
    assert rig.since("pi/status", at) == []
    assert rig.daemon.status is None


def _ignores_hangups(pid: int) -> bool:
    """Once the daemon has begun; before, the interpreter itself starts."""
    (mask,) = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn")]
    return bool(int(mask, 16) & 1)


def test_a_reload_that_is_asked_for_too_early_ends_nobody(rig: Rig) -> None:
    rig.daemon.start()
    wait_until(lambda: _ignores_hangups(rig.daemon.pid), within_s=20.0, what="its start")
    for _ in range(20):
        rig.daemon.signal(signal.SIGHUP)
        time.sleep(0.1)
    rig.daemon.ready()
    assert rig.daemon.status is None


@pytest.mark.parametrize(
    ("change", "message"), [("bundle: nowhere", "machines.fan.bundle"), ("bundle: x, chanel: 1", "machines.fan.chanel")]
)
def test_what_cannot_be_started_with_is_refused_in_one_line(tmp_path: Path, change: str, message: str) -> None:
    daemon = DaemonProcess(tmp_path, {})
    daemon.config.write_text(f"node: pi\nmachines:\n  fan: {{{change}}}\n")
    with daemon:
        daemon.start()
        wait_until(lambda: daemon.status is not None, within_s=20.0, what="its end")
        assert daemon.status == 78
        (line,) = daemon.log.splitlines()
        assert line.startswith("monitor: error: ")
        assert message in line
