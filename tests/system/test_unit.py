"""systemd/stethos.service as shipped, under a real systemd: sandbox, readiness, watchdog, reload, stop and restart."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.system.nspawn import Container

UNIT = ROOT / "systemd" / "stethos.service"
DROP_INS = "/etc/systemd/system/stethos.service.d"
STATE = "/var/lib/private/stethos"
CLOSED = ("/etc/stethos", "/opt/stethos", "/usr/bin", "/var/lib", "/srv/anybody")  # the last is writable for everybody
HIDDEN = ("/root", "/home")


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """Installed as docs/operating.md says, with the shipped configuration and no sound card."""
    with Container() as container:
        container.put(UNIT, "/etc/systemd/system/stethos.service")
        container.put(ROOT / "configs" / "monitor.yaml", "/etc/stethos/monitor.yaml")
        container.put(ROOT / "models" / "demo-fan", "/etc/stethos/models/demo-fan")
        container.put(Path(__file__).with_name("sandbox_probe.py"), "/usr/local/lib/sandbox_probe.py")
        container.put(ROOT / "tests" / "mqtt" / "anomalies.py", "/usr/local/lib/anomalies.py")
        container.check("mkdir -m 777 /srv/anybody; mknod -m 600 /dev/mem-probe c 1 1; chmod 644 /dev/mem-probe")
        container.check("mkdir -p /dev/snd; mknod /dev/snd/probe c 116 24; chgrp audio /dev/snd/probe; chmod 660 /dev/snd/probe")
        yield container


@pytest.fixture
def unit(container: Container) -> Iterator["Unit"]:
    """The service, stopped and as after its installation."""
    container.check(
        "systemctl stop stethos; systemctl start mosquitto\n"
        f"rm -rf {DROP_INS} {STATE} /root/found.json /etc/stethos/mqtt-password"
    )
    container.put(ROOT / "configs" / "monitor.yaml", "/etc/stethos/monitor.yaml")
    container.check("systemctl daemon-reload; systemctl reset-failed; journalctl --rotate; journalctl --vacuum-time=1s")
    yield Unit(container)
    container.check("systemctl stop stethos")


class Unit:
    """What `systemctl` and a subscriber say about the service."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def drop_in(self, text: str) -> None:
        self.container.put(f"[Service]\n{text}", f"{DROP_INS}/test.conf")
        self.container.check("systemctl daemon-reload")

    def start(self) -> None:
        self.container.check("systemctl start stethos || { journalctl --no-pager -o cat -u stethos; false; }")

    def show(self, name: str) -> str:
        return self.container.check(f"systemctl show stethos --property={name} --value")

    def retained(self, topic: str) -> str:
        """What the broker keeps under a topic of this node."""
        return self.container.check(f"mosquitto_sub -h 127.0.0.1 -t stethos/workshop/{topic} -C 1 -W 30")

    def wait_until_retained(self, topic: str, payload: str) -> None:
        self.container.wait_for(lambda: self.retained(topic) == payload)

    def wait_until_restarted(self, old_pid: str) -> None:
        self.container.wait_for(lambda: self.show("ActiveState") == "active" and self.show("MainPID") not in ("0", old_pid))

    def probe(self, settings: str = "") -> dict[str, Any]:
        """What can be done inside the sandbox: the probe in the daemon's place, with settings that differ from the unit's."""
        command = " ".join(("/opt/stethos/bin/python /usr/local/lib/sandbox_probe.py /dev/snd/probe", *CLOSED, *HIDDEN))
        into = "StandardOutput=file:/root/found.json"
        self.drop_in(f"Type=oneshot\nRestart=no\nExecStart=\nExecStart={command}\n{into}\n{settings}\n")
        self.start()
        found: dict[str, Any] = json.loads(self.container.check("cat /root/found.json"))
        return found


def test_systemd_finds_nothing_wrong_with_it(unit: Unit) -> None:
    done = unit.container.run("systemd-analyze verify /etc/systemd/system/stethos.service")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_becomes_ready_without_a_microphone_or_a_password_and_says_what_is_missing(unit: Unit) -> None:
    unit.start()
    assert (unit.show("ActiveState"), unit.show("Type")) == ("active", "notify")
    unit.wait_until_retained("status", "online")
    assert unit.retained("fan/availability") == "offline"
    state = json.loads(unit.retained("fan/state"))
    assert (state["state"], state["reason"]) == ("unknown", "microphone_absent")
    assert unit.retained("fan/anomaly") == "None"
    assert "microphone_absent" in unit.show("StatusText")


def test_it_starts_while_there_is_no_broker(unit: Unit) -> None:
    unit.container.check("systemctl stop mosquitto")
    unit.start()
    unit.container.check("systemctl start mosquitto")
    unit.wait_until_retained("status", "online")


def test_the_sandbox_lets_it_write_its_state_and_nothing_else(unit: Unit) -> None:
    unit.container.check("setpriv --reuid=12345 --clear-groups touch /srv/anybody/by-anybody")  # the folder is open
    found = unit.probe()
    assert (found["state"], found["runtime"]) == ("done", "done")
    assert found["write"] == dict.fromkeys(CLOSED, "EROFS") | dict.fromkeys(HIDDEN, "EACCES")
    assert found["uid"] > 60000


def test_in_the_sandbox_work_can_make_way_and_not_push_forward(unit: Unit) -> None:
    found = unit.probe()
    assert (found["nicer"], found["less_nice"]) == ("done", "EPERM")


def test_the_sandbox_has_what_the_daemon_needs(unit: Unit) -> None:
    found = unit.probe()
    assert found["broker"] == "done"
    assert found["memfd"] == "done"
    assert found["callback"] == 2
    assert found["proc"] == ["cpuinfo", "stat", "meminfo"]


@pytest.mark.parametrize(
    ("allowed", "answer"),
    [("", {"ENXIO", "ENODEV"}), ("DeviceAllow=", {"EPERM"}), ("SupplementaryGroups=", {"EACCES"})],
    ids=["as shipped", "without DeviceAllow", "without the audio group"],
)
def test_sound_cards_may_be_opened_even_before_the_kernel_knows_any(unit: Unit, allowed: str, answer: set[str]) -> None:
    """The node has ALSA's number and group, and no driver behind it: only one who may open it learns that."""
    assert "alsa" not in unit.container.check("cat /proc/devices") or not allowed
    found = unit.probe(allowed)
    assert found["sound"] in answer
    assert found["memory"] == "EPERM"


@pytest.mark.parametrize(
    ("settings", "may_ask"), [("", False), ("ProtectClock=no\nSystemCallFilter=adjtimex clock_adjtime", True)]
)
def test_the_clock_cannot_be_set_and_may_be_asked_with_the_documented_settings(unit: Unit, settings: str, may_ask: bool) -> None:
    assert settings in (ROOT / "docs" / "operating.md").read_text()
    found = unit.probe(settings)
    assert (found["ask_clock"], found["set_clock"]) == (may_ask, "EPERM")


@pytest.mark.parametrize("password", [None, "hunter2\n"])
def test_the_password_file_is_handed_over_if_there_is_one(unit: Unit, password: str | None) -> None:
    if password is not None:
        unit.container.check("touch /etc/stethos/mqtt-password; chmod 600 /etc/stethos/mqtt-password")
        unit.container.put(password, "/etc/stethos/mqtt-password")
    assert unit.probe()["password"] == (password or "\n")


def test_a_daemon_that_stands_still_is_restarted_by_the_watchdog(unit: Unit) -> None:
    unit.drop_in("WatchdogSec=5\n")
    unit.start()
    pid = unit.show("MainPID")
    unit.container.check(f"kill -STOP {pid}")
    unit.wait_until_restarted(pid)
    assert "Watchdog timeout" in unit.container.journal("stethos")
    unit.wait_until_retained("status", "online")


def test_a_reload_takes_the_new_configuration_without_a_restart(unit: Unit) -> None:
    unit.start()
    pid = unit.show("MainPID")
    shipped = (ROOT / "configs" / "monitor.yaml").read_text()
    unit.container.put(f"{shipped}  pump: {{bundle: models/demo-fan, channel: 2}}\n", "/etc/stethos/monitor.yaml")
    unit.container.check("systemctl reload stethos")
    assert unit.retained("pump/availability") == "offline"
    unit.container.wait_for(lambda: unit.show("ActiveState") == "active")  # said before the reload is over
    assert unit.show("MainPID") == pid


def test_a_reload_that_is_refused_changes_nothing_and_says_why(unit: Unit) -> None:
    unit.start()
    pid = unit.show("MainPID")
    unit.container.put("machines: {fan: {bundle: models/demo-fan, channel: 0}}\n", "/etc/stethos/monitor.yaml")
    unit.container.check("systemctl reload stethos")
    unit.container.wait_for(lambda: "machines.fan.channel must be in 1..256, got 0" in unit.container.journal("stethos"))
    assert "reload refused, the old settings stay" in unit.container.check("journalctl -u stethos -p err -o cat")
    unit.container.wait_for(lambda: unit.show("ActiveState") == "active")
    assert unit.show("MainPID") == pid
    unit.wait_until_retained("status", "online")


def test_a_machine_is_calibrated_within_the_sandbox(unit: Unit) -> None:
    """As far as it gets without a microphone: a process of its own starts there, finds the bundle, and says what is missing."""
    unit.start()
    unit.wait_until_retained("status", "online")
    heard = "mosquitto_sub -h 127.0.0.1 -t stethos/workshop/fan/response -C 2 -W 40 >/root/heard"
    order = "mosquitto_pub -h 127.0.0.1 -q 1 -t stethos/workshop/fan/set/calibrate -m '{\"minutes\": 1}'"
    unit.container.check(f"{heard} & sleep 1; {order}; wait", timeout_s=60)
    first, second = map(json.loads, unit.container.check("cat /root/heard").splitlines())
    assert (first["accepted"], second["accepted"]) == (True, False)
    assert "microphone default: absent: no such microphone; present: none" in second["reason"]


def test_what_is_calibrated_within_the_sandbox_is_undone_from_outside(unit: Unit) -> None:
    unit.container.put(ROOT / "demo" / "fan-normal.flac", "/etc/stethos/fan.flac")
    unit.container.check("sed -i 's/bundle: models.*/bundle: models\\/demo-fan/' /etc/stethos/monitor.yaml")  # which has learned
    command = "/opt/stethos/bin/monitor --config /etc/stethos/monitor.yaml calibrate --machine fan"
    minute = " /etc/stethos/fan.flac" * 3
    into = "StandardOutput=file:/root/found.txt"
    unit.drop_in(f"Type=oneshot\nRestart=no\nExecStart=\nExecStart={command} --from{minute}\n{into}\n")
    unit.start()
    assert "fan: calibrated on " in unit.container.check("cat /root/found.txt")
    unit.container.check(f"rm -r {DROP_INS}; systemctl daemon-reload")
    unit.start()
    adapted = json.loads(unit.retained("info"))["machines"]["fan"]
    assert adapted["adapted"] == "calibrate"
    assert "calibration undone; demo-fan@" in unit.container.check(f"{command} --undo")
    unit.container.wait_for(lambda: json.loads(unit.retained("info"))["machines"]["fan"]["adapted"] is None)


def test_its_memory_is_limited_to_several_times_of_what_it_uses(unit: Unit) -> None:
    unit.start()
    unit.wait_until_retained("status", "online")
    assert (unit.show("MemoryMax"), unit.show("OOMPolicy")) == (str(768 * 2**20), "continue")
    assert json.loads(unit.retained("health"))["memory_mb"] < 200


def test_it_stops_cleanly_in_under_five_seconds(unit: Unit) -> None:
    unit.start()
    unit.wait_until_retained("status", "online")
    began = time.monotonic()
    unit.container.check("systemctl stop stethos")
    assert time.monotonic() - began < 5
    assert (unit.show("Result"), unit.show("ExecMainStatus")) == ("success", "0")
    assert unit.retained("status") == "offline"
    assert unit.container.run("pgrep -f /opt/stethos").stdout == ""


def test_after_a_kill_it_is_back_with_what_it_had_stored(unit: Unit) -> None:
    """Two events of an anomaly that nobody could be told yet; the restart ends it."""
    watch = "timeout 60 mosquitto_sub -h 127.0.0.1 --disable-clean-session --id watcher -q 1 -t stethos/workshop/fan/event"
    unit.container.check(f"{watch} -E; systemctl stop mosquitto")
    store = (
        "import sys; sys.path.append('/usr/local/lib')\n"
        "from pathlib import Path; from anomalies import anomaly; from monitor.config import MqttConfig\n"
        "from monitor.mqtt.sink import MqttSink\n"
        f"sink = MqttSink(MqttConfig(), node='workshop', state_dir=Path('{STATE}')); sink.start()\n"
        "[sink.publish(event) for event in anomaly(1)[:2]]\n"
        "assert sink.stop(10) == 2"
    )
    unit.container.check(f'mkdir -p -m 700 {STATE}; /opt/stethos/bin/python -c "{store}"')
    unit.start()
    pid = unit.show("MainPID")
    unit.container.check(f"kill -KILL {pid}")
    unit.wait_until_restarted(pid)
    assert int(unit.show("NRestarts")) == 1
    unit.container.check("systemctl start mosquitto")
    received = unit.container.check(f"{watch} -C 3", timeout_s=90)
    events = [json.loads(line) for line in received.splitlines()]
    assert [(event["event_type"], event["seq"]) for event in events] == [("start", 0), ("update", 1), ("end", 2)]
    assert events[-1]["end_reason"] == "restarted"
    assert len({event["id"] for event in events}) == 1
