"""`monitor update` with a real service that hears a microphone, a real broker and a real repository."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from monitor.bundle import load_bundle
from monitor.daemon.control.socket import NAME, request
from monitor.daemon.doorbell import NAME as DOORBELL
from tests.broker import Broker, running_broker, say
from tests.daemon.daemon_process import DaemonProcess
from tests.daemon.fast_service import NAMED, SPEED
from tests.subscriber import Subscriber
from tests.update.plant import Node, Plant, changed_bundle, running_plant
from tests.waiting import wait_until
from train.release.alarms import WaveStopped, check_alarms
from train.release.releases import find, read_releases
from train.synth import MACHINES, Growth, Scene

pytestmark = pytest.mark.waits
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six minutes of the demo's fan."""
    path = tmp_path_factory.mktemp("sound") / "normal.wav"
    scene = Scene(machine=MACHINES["fan"](0), take=90, growth=Growth())
    soundfile.write(path, np.concatenate(list(scene.chunks(360.0))), RATE_HZ)
    return path


class Live:
    """The node, its service and a subscriber."""

    def __init__(self, node: Node, plant: Plant, daemon: DaemonProcess, broker: Broker, watcher: Subscriber) -> None:
        self.node, self.plant, self.daemon, self.broker, self.watcher = node, plant, daemon, broker, watcher

    def status(self) -> dict[str, Any]:
        reply = request(self.node.folder / "run" / NAME, {"do": "status"})
        assert reply is not None
        return dict(reply.body["machines"]["fan"])

    def current(self) -> dict[str, Any]:
        """The latest `bundle/current`."""
        found = self.watcher.on("stethos/pi/bundle/current")
        return dict(json.loads(found[-1])["machines"]["fan"]) if found else {}

    def until(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, 120.0, what=f"{what}\n{self.status()}\n{self.current()}\n{self.daemon.log[-2000:]}")


@pytest.fixture
def live(tmp_path: Path, demo_bundle: Path, sound: Path) -> Iterator[Live]:
    with running_broker(tmp_path) as broker, running_plant(tmp_path / "web") as plant:
        node = Node(tmp_path / "n", demo_bundle, plant.url)
        (node.folder / "sound").write_text(str(sound))
        (node.folder / "root.json").write_bytes(plant.root.read_bytes())
        node.configure(f"mqtt: {{port: {broker.port}, reconnect_min_s: 0.2, reconnect_max_s: 1.0}}")
        daemon = DaemonProcess(node.folder, {NAMED: str(node.folder / "sound")}, module="tests.daemon.fast_service")
        with Subscriber(broker) as watcher, daemon:
            daemon.start().ready()
            found = Live(node, plant, daemon, broker, watcher)
            found.until(lambda: found.status()["ratio"], "scores")
            yield found


def settings(live: Live, text: str, more: str = "") -> None:
    live.node.settings = f"{text}, timeout_s: 20"
    live.node.configure(f"mqtt: {{port: {live.broker.port}, reconnect_min_s: 0.2, reconnect_max_s: 1.0}}{more}")


def test_a_bundle_that_alarms_in_the_shadow_is_refused_and_a_good_one_is_used_and_reported(
    live: Live, tmp_path: Path, demo_bundle: Path, record_property: Callable[[str, object], None]
) -> None:
    old = load_bundle(demo_bundle)
    live.until(lambda: live.current().get("bundle") == old.id, "the first bundle/current")
    assert {key: live.current()[key] for key in ("release", "since", "previous", "refused")} == dict.fromkeys(
        ("release", "since", "previous", "refused")
    )
    settings(live, "shadow_s: 60, require_shadow: true, trial_h: 24")
    live.plant.release(changed_bundle(demo_bundle, tmp_path / "bad", factor=0.2), "pi/fan")
    error = live.node.run(status=78)
    assert "raised an anomaly" in error and f"where {old.id} was quiet" in error
    assert live.status()["bundle"] == old.id
    assert "is not tried again" in live.node.run()
    good = load_bundle(changed_bundle(demo_bundle, tmp_path / "good", factor=1.1))
    live.plant.release(tmp_path / "good", "pi/fan")
    words, figures = live.node.measured("update")
    record_property("figures", f"with a comparison of 60 s of sound at {SPEED} times its speed: {figures}")
    assert words.startswith(f"fan: r0002: {good.id} installed (") and words.endswith("; in use")
    assert live.status()["bundle"] == good.id
    live.until(lambda: live.current()["bundle"] == good.id, "bundle/current")
    current = live.current()
    assert (current["hash"], current["release"], current["previous"]) == (good.digest, "r0002", old.id)
    assert current["refused"].startswith("r0001: fan: demo-fan@")
    assert live.node.run("install-bundle", "--undo").endswith("; in use")
    assert live.status()["bundle"] == old.id


def test_a_bundle_that_alarms_on_trial_where_the_old_one_is_quiet_goes_back_by_itself(
    live: Live, tmp_path: Path, demo_bundle: Path
) -> None:
    old = load_bundle(demo_bundle)
    settings(live, "shadow_s: 0, trial_h: 24")
    bad = load_bundle(changed_bundle(demo_bundle, tmp_path / "bad", factor=0.2))
    live.plant.release(tmp_path / "bad", "pi/fan")
    assert live.node.run().startswith(f"fan: r0001: {bad.id} installed")
    live.until(lambda: live.current().get("alarms"), "an alarm of the new bundle")
    assert live.current()["bundle"] == bad.id
    error = live.node.run(status=78)
    assert f"{bad.id} raised an alarm" in error or "is not tried again" in error
    assert live.status()["bundle"] == old.id
    installed = live.node.installed()
    assert [*installed.refused] == [f"r0001 {bad.id}"]
    assert f"where {old.id} was quiet" in next(iter(installed.refused.values()))


def test_without_clips_the_sound_of_now_judges_a_bundle_on_trial(live: Live, tmp_path: Path, demo_bundle: Path) -> None:
    settings(live, "shadow_s: 60, trial_h: 24", "\nprivate: true")
    live.daemon.stop()
    live.daemon.told.clear()
    live.daemon.start().ready()
    live.until(lambda: live.status()["ratio"], "scores")
    bad = load_bundle(changed_bundle(demo_bundle, tmp_path / "bad", factor=0.2))
    assert live.node.run("install-bundle", tmp_path / "bad", "--no-shadow").endswith("; in use")
    live.until(lambda: live.current().get("alarms"), "an alarm of the new bundle")
    live.node.run(status=78)
    assert live.status()["bundle"] == load_bundle(demo_bundle).id != bad.id


def test_the_broker_s_messages_stop_a_wave(live: Live, tmp_path: Path, demo_bundle: Path) -> None:
    settings(live, "shadow_s: 0, trial_h: 0")
    live.plant.release(changed_bundle(demo_bundle, tmp_path / "bad", factor=0.2), "pi/fan", name="spring", wave=0.999)
    live.node.run()
    live.until(lambda: live.current().get("release") == "spring" and live.current()["alarms"], "an alarm of the release")
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(live.broker.port), "-v", "-W", "2", "-t", "stethos/+/bundle/current"]
    counts = tmp_path / "counts"
    counts.write_bytes(subprocess.run(command, capture_output=True, check=False).stdout)
    with live.plant.open() as repository:
        release = find(read_releases(repository, "hall-1"), "spring")
    with pytest.raises(WaveStopped, match=r"spring: 1 machine used it for 0\.0 h together, at least 24 h are needed"):
        check_alarms(counts, release, max_per_day=0.2, min_hours=24.0)
    with pytest.raises(WaveStopped, match=r"a machine and day; at most 0\.2 are allowed"):
        check_alarms(counts, release, max_per_day=0.2, min_hours=0.0)


def test_a_machine_that_was_calibrated_here_keeps_its_bundle_unless_the_release_replaces_it(
    live: Live, tmp_path: Path, demo_bundle: Path, sound: Path
) -> None:
    live.node.run("calibrate", "--from", sound)
    request(live.node.folder / "run" / NAME, {"do": "reload"})
    live.until(lambda: live.status()["adapted"] == "calibrate", "the calibrated bundle")
    own = live.status()["bundle"]
    good = load_bundle(changed_bundle(demo_bundle, tmp_path / "good", factor=1.1))
    live.plant.release(tmp_path / "good", "pi/fan")
    assert live.node.run() == f"fan keeps {own}, which was calibrated on this node"
    assert not [path for path in live.plant.server.seen if path.endswith(".tar")]
    live.plant.release(tmp_path / "good", "pi/fan", adapted="replace")
    assert live.node.run().endswith("; in use")
    assert live.status()["bundle"] == good.id
    assert live.node.run("install-bundle", "--undo").endswith("; in use")
    assert live.status()["bundle"] == own


def test_the_doorbell_rings_once_a_minute_whatever_is_said(live: Live) -> None:
    bell = live.node.folder / "run" / DOORBELL
    topic = "stethos/pi/bundle/desired"
    for payload in ("nonsense", '{"machine": "../../x"}', '{"not_before": "2100-01-01T00:00:00.000Z"}'):
        say(live.broker, topic, payload)
    live.until(lambda: live.daemon.log.count("bundle/desired: ignored") >= 1, "a refused message")
    assert not bell.exists()
    say(live.broker, topic, '{"machine": "fan", "target": "r0001"}', "-r")
    live.until(bell.exists, "the doorbell")
    rung = bell.stat().st_mtime_ns
    say(live.broker, topic, "{}")
    say(live.broker, topic, "x" * 100_000)
    say(live.broker, "stethos/pi/fan/set/ack", "{}")
    live.until(lambda: live.watcher.on("stethos/pi/fan/response"), "an answer to a later command")
    assert bell.stat().st_mtime_ns == rung
