"""From sound to the right targets: severities, machines, and errors that must not stop the monitoring."""

import time
from contextlib import closing
from pathlib import Path

import pytest

from monitor import Monitor, Recording, load_bundle
from monitor.clock import SteadyClock
from monitor.config import Config
from monitor.daemon.alarms import Alarms
from monitor.daemon.state_publisher import StatePublisher
from monitor.events.event import Anchor, Identity
from monitor.monitor import EPOCH
from monitor.notify import worker as worker_module
from monitor.notify.database import connect
from monitor.notify.service import FILE, Notifications
from tests.daemon.test_failures import Outlet
from tests.notify.receivers import Webhook
from tests.waiting import wait_until


def config(bundle: Path, **urls: dict[str, object]) -> Config:
    machines = {name: {"bundle": bundle, "channel": channel} for channel, name in enumerate(("fan", "pump"), 1)}
    return Config.model_validate({"node": "pi", "notify": urls, "machines": machines})


def play(bundle: Path, recording: Path, alarms: Alarms, notifications: Notifications) -> None:
    """A recording as the sound of the fan, as fast as possible."""
    loaded = load_bundle(bundle)
    timeline = Anchor(utc=EPOCH, sample_rate_hz=loaded.manifest.front_end.sample_rate_hz, synced=False)
    publisher = StatePublisher(Outlet(), machine="fan", threshold=1.0, timeline=timeline, alarm=alarms["fan"], clock=alarms.clock)
    identity = Identity(node="pi", machine="fan", bundle=loaded.id, session="test")
    fan = Monitor(loaded, identity=identity, sinks=[publisher, notifications.sink("fan", alarms["fan"])])
    for block in Recording(recording, sample_rate_hz=fan.sample_rate_hz).blocks():
        fan.push(block)
    fan.close()


def test_each_target_receives_its_severity_and_its_machines(tmp_path: Path, bundle_of_two_levels: Path, demo_fault: Path) -> None:
    both, alarm, other = Webhook(), Webhook(), Webhook()
    settings = config(
        bundle_of_two_levels,
        both={"url": both.url, "severity": "warning", "picture": False},
        alarm={"url": alarm.url, "machines": ["fan"], "picture": False},
        other={"url": other.url, "machines": ["pump"], "severity": "warning", "picture": False},
    )
    alarms = Alarms({})
    alarms.apply_config(settings)
    notifications = Notifications(tmp_path, clock=alarms.clock, make_alarm=alarms.follower)
    notifications.apply_config(settings)
    with both, alarm, other:
        play(bundle_of_two_levels, demo_fault, alarms, notifications)
        wait_until(lambda: notifications.counts["notifications_queued"] == 0 and len(both.received) > 1, what="an empty queue")
        notifications.stop(10.0)
    assert both.titles == ["fan: Warning", "fan: Alarm, was a warning"]
    assert [one["type"] for one in both.received] == ["warning", "failure"]
    assert alarm.titles == ["fan: Alarm"]
    assert other.titles == []
    assert notifications.n_errors == 0


def test_without_targets_there_is_neither_a_file_nor_a_thread(tmp_path: Path, demo_bundle: Path, demo_fault: Path) -> None:
    settings = config(demo_bundle)
    alarms = Alarms({})
    alarms.apply_config(settings)
    notifications = Notifications(tmp_path, clock=SteadyClock(), make_alarm=alarms.follower)
    notifications.apply_config(settings)
    play(demo_bundle, demo_fault, alarms, notifications)
    notifications.stop(1.0)
    assert list(tmp_path.iterdir()) == []
    probe = notifications.probe(patience_s=1.0)
    assert probe.is_alive()
    assert probe.advanced() != probe.advanced()


def test_an_error_of_ours_is_counted_and_the_monitoring_goes_on(
    tmp_path: Path, demo_bundle: Path, demo_fault: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(demo_bundle, shift={"url": "json://127.0.0.1:1/hook"})
    alarms = Alarms({})
    alarms.apply_config(settings)

    def broken(machine: str, severity: str) -> None:
        raise RuntimeError(f"no alarm for {machine}")

    notifications = Notifications(tmp_path, clock=alarms.clock, make_alarm=broken)  # type: ignore[arg-type]
    notifications.apply_config(settings)
    play(demo_bundle, demo_fault, alarms, notifications)
    notifications.stop(10.0)
    assert notifications.n_errors > 10
    assert caplog.text.count("notify: fan: unexpected error") == 1
    assert notifications.probe(patience_s=1.0).n_failures() == notifications.n_errors


def test_a_picture_that_is_late_is_not_sent_with_a_later_event(
    tmp_path: Path, demo_bundle: Path, demo_fault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "PICTURE_S", 1.0)
    alarms, receiver = Alarms({}), Webhook()
    settings = config(demo_bundle, shift={"url": receiver.url, "machines": ["fan"]})
    alarms.apply_config(settings)
    notifications = Notifications(tmp_path, clock=alarms.clock, make_alarm=alarms.follower)
    notifications.apply_config(settings)
    with receiver:
        play(demo_bundle, demo_fault, alarms, notifications)
        notifications.show("fan", "57e01217-0000-5000-8000-000000000000", b"of an earlier event")
        wait_until(lambda: receiver.received != [], what="a message")
        notifications.stop(10.0)
    assert receiver.received[0]["attachments"] == []


def test_a_reload_that_adds_the_first_target_does_not_wait_for_the_disk(
    tmp_path: Path, demo_bundle: Path, demo_fault: Path
) -> None:
    """It runs on the thread that listens. Another program's lock takes the place of a slow card: SQLite waits 1 s for it."""
    alarms, receiver = Alarms({}), Webhook()
    notifications = Notifications(tmp_path, clock=alarms.clock, make_alarm=alarms.follower)
    notifications.apply_config(config(demo_bundle))
    lock = connect(tmp_path / FILE)
    settings = config(demo_bundle, shift={"url": receiver.url, "machines": ["fan"], "picture": False})
    alarms.apply_config(settings)
    began = time.monotonic()
    notifications.apply_config(settings)
    assert time.monotonic() - began < 0.5
    with closing(lock), receiver:
        play(demo_bundle, demo_fault, alarms, notifications)
        wait_until(lambda: receiver.received != [], what="a message from memory")
        notifications.stop(10.0)
