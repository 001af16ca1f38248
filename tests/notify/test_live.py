"""The whole daemon with a real microphone: an anomaly reaches a webhook with its picture, also across a kill."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from monitor.cli.checking.support import collect
from monitor.daemon.control.socket import NAME, request
from tests.broker import PERSISTENT, Broker, running_broker, say
from tests.daemon.daemon_process import DaemonProcess
from tests.notify.receivers import Webhook, picture_of
from tests.rig import VirtualMicrophone, virtual_microphone
from tests.subscriber import Subscriber
from tests.waiting import wait_until

RATE_HZ = 16_000
SECRET = "hooks-s3cr3t-t0ken"


@dataclass
class Rig:
    microphone: VirtualMicrophone
    broker: Broker
    daemon: DaemonProcess
    webhook: Webhook
    fault: Path

    def status(self) -> dict[str, Any]:
        reply = request(self.daemon.folder / "run" / NAME, {"do": "status"}, timeout_s=20.0)
        assert reply is not None
        return reply.body


@pytest.fixture
def rig(tmp_path: Path, demo_bundle: Path, demo_fault: Path) -> Iterator[Rig]:
    webhook = Webhook()
    with virtual_microphone(tmp_path / "audio", rate_hz=RATE_HZ) as microphone, running_broker(tmp_path, PERSISTENT) as broker:
        folder = tmp_path / "daemon"
        folder.mkdir()
        url = folder / "url"
        url.write_text(f"json://shift:{SECRET}@127.0.0.1:{webhook.port}/{SECRET}\n")
        url.chmod(0o600)
        daemon = DaemonProcess(folder, microphone.environment)
        daemon.config.write_text(
            f"node: pi\nmqtt: {{port: {broker.port}}}\n"
            "notify:\n  shift: {url_file: url}\n  nobody: {url: 'json://127.0.0.1:1/x', severity: warning}\n"
            f"machines:\n  fan: {{bundle: {demo_bundle}, name: Fan 3, microphone: 'name:mic', microphone_rate_hz: {RATE_HZ}}}\n"
        )
        sound, _ = soundfile.read(demo_fault, dtype="float32")
        fault = tmp_path / "fault.wav"
        soundfile.write(fault, np.tile(sound[56 * RATE_HZ : 84 * RATE_HZ], 8), RATE_HZ)
        with daemon:
            yield Rig(microphone, broker, daemon, webhook, fault)
        webhook.stop()


def test_an_anomaly_reaches_a_webhook_with_its_picture(rig: Rig) -> None:
    with rig.webhook, Subscriber(rig.broker, topic="stethos/#") as listener:
        rig.daemon.start().ready()
        rig.microphone.play(rig.fault)
        wait_until(lambda: rig.webhook.received, within_s=90.0, what=f"the message\n{rig.daemon.log}")
        (event, *_) = listener.events()
        (body,) = rig.webhook.received
        assert body["title"] == "Fan 3: Alarm"
        assert body["message"].startswith(event["summary"])
        assert event["id"] in body["message"]
        assert picture_of(body).startswith(b"\x89PNG")
        _snooze_and_wake(rig, listener)
        wait_until(lambda: len(rig.webhook.received) == 2, within_s=60.0, what="the message after the snooze")
        assert rig.webhook.titles[1] == "Fan 3: Still an alarm"
        assert picture_of(rig.webhook.received[1]).startswith(b"\x89PNG")
        say(rig.broker, "stethos/pi/fan/set/ack", "{}")
        _snooze_and_wake(rig, listener)
        n_states = len(listener.ending("fan/state"))
        wait_until(lambda: len(listener.ending("fan/state")) > n_states, what="ten seconds of an acknowledged alarm")
        assert listener.ending("fan/state")[-1].json["acknowledged"]
        assert len(rig.webhook.received) == 2
        assert rig.daemon.stop()[0] == 0


def test_without_a_broker_the_message_arrives_all_the_same(rig: Rig) -> None:
    text = rig.daemon.config.read_text().replace(f"mqtt: {{port: {rig.broker.port}}}", "mqtt: null")
    assert "mqtt: null" in text
    rig.daemon.config.write_text(text)
    with rig.webhook:
        rig.daemon.start().ready()
        rig.microphone.play(rig.fault)
        wait_until(lambda: rig.webhook.received, within_s=90.0, what=f"the message\n{rig.daemon.log}")
        assert rig.webhook.titles == ["Fan 3: Alarm"]
        assert picture_of(rig.webhook.received[0]).startswith(b"\x89PNG")
        assert rig.daemon.stop()[0] == 0


def _snooze_and_wake(rig: Rig, listener: Subscriber) -> None:
    for duration_s in (600, 0):
        say(rig.broker, "stethos/pi/fan/set/snooze", f'{{"duration_s": {duration_s}}}')
        wait_until(partial(_is_snoozed, listener, bool(duration_s)), what="the snooze or its end")


def _is_snoozed(listener: Subscriber, wanted: bool) -> bool:
    return bool(listener.ending("fan/state")[-1].json["snoozed"] == wanted)


def test_a_message_survives_a_kill_while_the_receiver_is_away_and_no_secret_is_shown(rig: Rig) -> None:
    rig.daemon.start().ready()
    rig.microphone.play(rig.fault)
    wait_until(lambda: "notify: shift: cannot send" in rig.daemon.log, within_s=90.0, what=f"a failure\n{rig.daemon.log}")
    with Subscriber(rig.broker, topic="stethos/pi/health") as listener:
        wait_until(lambda: _counts(listener) == (2, True), within_s=90.0, what="the failure in health")
    shown = [rig.daemon.log, json.dumps(rig.status()), *collect(rig.daemon.config).values(), *rig.daemon.told]
    senders = psutil.Process(rig.daemon.pid).children(recursive=True)  # one may be about to try again
    rig.daemon.signal(signal.SIGKILL)
    rig.daemon.kill()
    psutil.wait_procs(senders, timeout=30.0)
    rig.daemon.told.clear()
    rig.microphone.kill()
    with rig.webhook:
        rig.daemon.start().ready()
        wait_until(lambda: rig.webhook.received, within_s=60.0, what="the message after the kill")
        assert rig.webhook.titles == ["Fan 3: Alarm"]
        assert rig.daemon.stop()[0] == 0
    assert SECRET not in "".join([*shown, rig.daemon.log])


def _counts(listener: Subscriber) -> tuple[int, bool] | None:
    """Queued messages of both targets, and whether an attempt has failed, as of the last `health`."""
    found = listener.ending("/health")
    return (found[-1].json["notifications_queued"], found[-1].json["notifications_failed"] > 0) if found else None
