"""Clips and pictures over MQTT: mosquitto_sub fetches them from the real daemon."""

import io
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.broker import Broker, running_broker, say
from tests.daemon.daemon_process import DaemonProcess
from tests.daemon.deaf_fan import long_sound
from tests.rig import virtual_microphone
from tests.subscriber import Subscriber
from tests.waiting import wait_until

RATE_HZ = 16000
FAN = "stethos/pi/fan"


@dataclass
class Service:
    """The daemon with a machine whose every sound is taken for its silence, which is its anomaly."""

    daemon: DaemonProcess
    broker: Broker
    watcher: Subscriber
    bundle: Path

    def start(self, more: str = "") -> None:
        machine = f"{{bundle: {self.bundle}, microphone: 'name:mic', idle: {{below_dbfs: 0, means: anomaly}}}}"
        self.daemon.config.write_text(f"node: pi\nmqtt: {{port: {self.broker.port}}}\n{more}\nmachines:\n  fan: {machine}\n")
        self.daemon.start().ready()

    def event(self) -> dict[str, Any]:
        """The first one's start."""
        self.until(lambda: self.watcher.on(f"{FAN}/event"), "an event")
        return dict(json.loads(self.watcher.on(f"{FAN}/event")[0]))

    def order(self, payload: str) -> dict[str, Any]:
        """`set/clip`; the answer."""
        n_before = len(self.watcher.on(f"{FAN}/response"))
        say(self.broker, f"{FAN}/set/clip", payload)
        self.until(lambda: len(self.watcher.on(f"{FAN}/response")) > n_before, "an answer")
        return dict(json.loads(self.watcher.on(f"{FAN}/response")[n_before]))

    def until(self, condition: Any, what: str) -> None:
        wait_until(condition, within_s=90.0, what=f"{what}\n{self.daemon.log[-3000:]}")

    @contextmanager
    def fetched(self, topic: str) -> Iterator[list[bytes]]:
        """What mosquitto_sub writes of one message, byte by byte; it listens within `with` and has it after."""
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.broker.port), "-q", "1", "-C", "1", "-W", "60", "-N"]
        got: list[bytes] = []
        with subprocess.Popen([*command, "-t", topic], stdout=subprocess.PIPE) as subscriber:
            yield got
            got.append(subscriber.communicate()[0])

    @property
    def kept(self) -> list[str]:
        return sorted(path.suffix for path in (self.daemon.folder / "state").glob("clips/*"))


@pytest.fixture
def service(tmp_path: Path, demo_bundle: Path, demo_normal: Path) -> Iterator[Service]:
    with virtual_microphone(tmp_path / "audio", rate_hz=RATE_HZ) as microphone, running_broker(tmp_path) as broker:
        microphone.play(long_sound(tmp_path, demo_normal))
        (tmp_path / "daemon").mkdir()
        daemon = DaemonProcess(tmp_path / "daemon", microphone.environment)
        with Subscriber(broker) as watcher, daemon:
            yield Service(daemon, broker, watcher, demo_bundle)


def test_picture_and_sound_are_fetched_and_decoded(service: Service) -> None:
    service.start("clips: {max_s: 15, pre_s: 1}")
    event = service.event()
    assert event["clip"] == f"fan-{event['id']}.flac"
    with service.fetched(f"{FAN}/snapshot") as pictures:
        pass  # it is retained
    assert len(pictures[0]) <= 100_000
    picture = Image.open(io.BytesIO(pictures[0]))
    picture.load()
    assert (picture.format, picture.size) == ("PNG", (960, 436))

    with service.fetched(f"{FAN}/clip/+") as early:
        assert service.order(json.dumps({"id": event["id"], "request": "early"}))["accepted"]
    assert service.order(json.dumps({"id": event["id"]}))["reason"].startswith("one clip every 10 s: try again in ")
    assert service.order(json.dumps({"id": event["id"].replace("-5", "-4")}))["reason"].startswith("there is no clip of ")
    assert service.order('{"id": "../../etc/passwd"}')["reason"].startswith("id must be ")
    assert service.order("{}")["reason"] == "id must be set"

    service.until(lambda: service.kept == [".flac", ".png"], "files")
    service.until(lambda: service.order(json.dumps({"id": event["id"], "request": "a"}))["accepted"], "a second clip")
    service.daemon.stop()
    with service.fetched(f"{FAN}/clip/+") as late:
        service.daemon.told.clear()
        service.daemon.start().ready()  # it knows what the run before has kept
        service.until(lambda: service.order(json.dumps({"id": event["id"]}))["accepted"], "a third clip")
    (path,) = (service.daemon.folder / "state" / "clips").glob("*.flac")
    whole, rate_hz = soundfile.read(path)
    assert rate_hz == RATE_HZ
    assert len(whole) / RATE_HZ == pytest.approx(15.0, abs=0.1)
    assert late[0] == path.read_bytes()
    part, _ = soundfile.read(io.BytesIO(early[0]))
    n = min(len(part), len(whole))
    assert n > 8 * RATE_HZ
    assert np.array_equal(part[:n], whole[:n])
    assert 0.001 < float(np.sqrt(np.mean(whole**2))) < 0.5


def test_in_private_there_are_pictures_and_no_sound(service: Service) -> None:
    service.start("private: true")
    event = service.event()
    assert event["clip"] is None
    with service.fetched(f"{FAN}/snapshot") as pictures:
        pass
    Image.open(io.BytesIO(pictures[0])).load()
    assert service.order(json.dumps({"id": event["id"]}))["reason"] == "sending sound is disabled (private: true)"
    service.daemon.stop()
    assert service.kept == []
