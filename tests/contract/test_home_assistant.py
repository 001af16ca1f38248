"""Home Assistant shows every machine and deals with its alarms: the real one under --long, else by what it documents."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from monitor.events.event import EventType, Severity
from monitor.json_lines import to_json
from monitor.mqtt.contract import COMMANDS, TOPICS
from monitor.mqtt.discovery import Announced, machine_device, node_device
from tests.broker import say
from tests.conftest import need
from tests.daemon.deaf_fan import BASE, Service, running_service
from tests.mqtt.anomalies import anomaly
from tests.waiting import wait_until

LONG = bool(os.environ.get("LONG_TESTS"))
US = Announced(base="stethos/pi", node="pi", version="0.1.0")
NEEDED = {  # by https://www.home-assistant.io/integrations/mqtt: beside `platform` and `unique_id`
    "binary_sensor": {"state_topic"},
    "sensor": {"state_topic"},
    "event": {"state_topic", "event_types"},
    "button": {"command_topic"},
    "image": {"image_topic"},
}


def fan(name: str | None = None) -> dict[str, Any]:
    return machine_device(US, machine="fan", name=name, bundle="demo-fan@e2fabdc6df37")


@pytest.mark.parametrize("message", [fan(), fan("Ventilator Süd"), node_device(US)])
def test_an_announcement_is_as_home_assistant_documents_it(message: dict[str, Any]) -> None:
    assert message["device"].keys() >= {"identifiers", "name"}
    assert message["origin"]["name"] == "Stethos"
    for entity in message["components"].values():
        assert entity.keys() >= {"platform", "unique_id", "name", "availability"} | NEEDED[entity["platform"]]
    assert len(json.dumps(message)) < 16_000


def test_ids_do_not_depend_on_what_people_call_a_machine_and_no_two_are_alike() -> None:
    def ids(message: dict[str, Any]) -> list[str]:
        return [*message["device"]["identifiers"], *(entity["unique_id"] for entity in message["components"].values())]

    assert ids(fan()) == ids(fan("Ventilator Süd"))
    twins = [
        machine_device(Announced(base=f"stethos/{node}", node=node, version="0"), machine=machine, name="fan", bundle=None)
        for node, machine in (("a", "b_c"), ("a_b", "c"), ("a-b", "c"))
    ]
    everyone = [one for message in (*twins, node_device(US), fan()) for one in ids(message)]
    assert len(everyone) == len(set(everyone))


def test_it_listens_and_speaks_where_the_contract_says() -> None:
    allowed = {topic.path.replace("<node>/<machine>", "stethos/pi/fan").replace("<node>", "stethos/pi") for topic in TOPICS}
    for message in (fan(), node_device(US)):
        text = json.dumps(message)
        assert set(re.findall(r'"(stethos/[^"]+)"', text)) <= allowed | {f"{BASE}/fan/snapshot"}
    for entity in fan()["components"].values():
        if entity["platform"] == "button":
            COMMANDS[entity["command_topic"].rpartition("/set/")[2]].model_validate_json(entity["payload_press"])


def entities(page: object) -> Iterator[str]:
    """Every entity that a dashboard names."""
    yield from re.findall(r"\b(?:binary_sensor|sensor|event|button)\.\w+", yaml.safe_dump(page))


def test_the_dashboard_shows_what_is_announced(root: Path) -> None:
    dashboard = yaml.safe_load((root / "configs" / "home-assistant" / "dashboard.yaml").read_text())
    announced = {
        f"{entity['platform']}.fan_{entity['name'].lower().replace(' ', '_')}" for entity in fan()["components"].values()
    }
    assert set(entities(dashboard)) <= announced
    assert len(set(entities(dashboard))) >= 8


def test_the_automations_hear_what_is_sent(root: Path) -> None:
    package = yaml.safe_load((root / "configs" / "home-assistant" / "stethos.yaml").read_text())
    said = {f"stethos/+/+/{topic.path.split('/')[-1]}": topic.payload for topic in TOPICS}
    said["stethos/+/+/event"] = tuple(f"{level} {kind}" for level in get_args(Severity) for kind in get_args(EventType))
    triggers = [trigger for automation in package["automation"] for trigger in automation["triggers"]]
    heard = [trigger for trigger in triggers if trigger["trigger"] == "mqtt"]
    assert len(heard) == 3
    for trigger in heard:
        assert trigger["payload"] in said[trigger["topic"]]  # type: ignore[operator]


def test_the_blueprint_asks_for_entities_that_are_announced(root: Path) -> None:
    text = (root / "configs" / "home-assistant" / "blueprint.yaml").read_text()
    announced = {(entity["platform"], entity["name"]) for entity in fan()["components"].values()}
    asked = re.findall(r'description: The machine\'s "([^"]+)".*?domain: (\w+)', text, re.DOTALL)
    assert len(asked) == 5
    assert {(domain, name) for name, domain in asked} <= announced


class Assistant:
    """Home Assistant in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def state(self, entity: str) -> str | None:
        found = self.ask("states")["states"].get(entity)
        return None if found is None else str(found[0])

    def until(self, entity: str, state: str | None) -> None:
        wait_until(lambda: self.state(entity) == state, 90.0)


@contextmanager
def home_assistant(folder: Path, port: int, root: Path) -> Iterator[Assistant]:
    python = os.environ.get("HOME_ASSISTANT_PYTHON")
    need(python is not None, "HOME_ASSISTANT_PYTHON, a Python with Home Assistant (scripts/test --long makes one)")
    assert python is not None
    (folder / "assistant").mkdir(exist_ok=True)
    script, configs = root / "tests" / "contract" / "home_assistant.py", root / "configs" / "home-assistant"
    command = [python, str(script), str(folder / "assistant"), str(port), str(configs)]
    with (folder / "assistant.log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", (folder / "assistant.log").read_text()
        yield Assistant(process)
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not LONG, reason="installs Home Assistant: --long")
def test_home_assistant_itself_shows_a_machine_and_deals_with_its_alarm(
    tmp_path: Path, root: Path, demo_bundle: Path, demo_normal: Path
) -> None:
    with (
        running_service(tmp_path, demo_bundle, demo_normal) as service,
        home_assistant(tmp_path, service.broker.port, root) as assistant,
    ):
        service.configure("fan", "pump")
        service.daemon.start().ready()
        assistant.until("binary_sensor.fan_anomaly", "on")
        _check_entities(assistant, root)
        wait_until(lambda: len(notified(assistant, "notify")) >= 2)  # fan and pump ring
        titles = {one["title"] for one in notified(assistant, "notify")}
        assert not any("worth a look" in title for title in titles)
        assert titles >= {"fan sounds unusual", "pump sounds unusual"}
        _tap_on_the_picture(assistant)
        _deal_with_it(assistant, service)
        assert "clear_notification" in [one["message"] for one in notified(assistant, "mobile_app_phone")]
        _warn(assistant, service)
        service.configure("fan")
        service.daemon.signal(1)
        assistant.until("binary_sensor.pump_anomaly", None)
        assert sorted(assistant.ask("states")["devices"]) == ["Stethos pi", "fan"]
        service.daemon.kill()
        assistant.until("sensor.fan_state", "unavailable")
    assert "ERROR" not in (tmp_path / "assistant.log").read_text()


def notified(assistant: Assistant, phone: str) -> list[dict[str, Any]]:
    return [one for one in assistant.ask("states")["notified"] if one["to"] == phone]


def _tap_on_the_picture(assistant: Assistant) -> None:
    """The blueprint's notification has the event's sentence, its picture and buttons that work."""
    wait_until(lambda: notified(assistant, "mobile_app_phone"))
    (shown,) = notified(assistant, "mobile_app_phone")
    states = assistant.ask("states")["states"]
    assert (shown["title"], shown["message"]) == ("fan sounds unusual", states["event.fan_event"][1]["summary"])
    assert shown["data"]["image"] == "/api/image_proxy/image.fan_last_event"
    assert states["image.fan_last_event"][0] != "unknown"
    acknowledge, _ = shown["data"]["actions"]
    assistant.ask(f"fire mobile_app_notification_action {json.dumps({'action': acknowledge['action']})}")
    wait_until(lambda: assistant.ask("states")["states"]["binary_sensor.fan_anomaly"][1]["acknowledged"] is True)


def _check_entities(assistant: Assistant, root: Path) -> None:
    wait_until(lambda: assistant.ask("states")["states"]["event.fan_event"][1]["event_type"] == "start")
    seen = assistant.ask("states")
    assert sorted(seen["devices"]) == ["Stethos pi", "fan", "pump"]
    announced = {entity["unique_id"] for message in (fan(), node_device(US)) for entity in message["components"].values()}
    assert announced <= set(seen["unique_ids"].values())
    assert seen["states"]["sensor.fan_state"][0] == "anomaly"
    assert seen["states"]["sensor.fan_severity"][0] == "alarm"
    assert seen["states"]["sensor.fan_severity"][1]["options"] == ["none", "warning", "alarm"]
    assert float(seen["states"]["sensor.fan_score_ratio"][0]) >= 1.0
    assert float(seen["states"]["sensor.fan_level"][0]) < 0.0
    assert seen["states"]["binary_sensor.fan_microphone"][0] == "on"
    assert seen["states"]["sensor.stethos_pi_memory"][0] not in ("unknown", "unavailable")
    dashboard = yaml.safe_load((root / "configs" / "home-assistant" / "dashboard.yaml").read_text())
    assert set(entities(dashboard)) <= set(seen["states"])


def _deal_with_it(assistant: Assistant, service: Service) -> None:
    def marks() -> dict[str, Any]:
        return dict(assistant.ask("states")["states"]["binary_sensor.fan_anomaly"][1])

    assistant.ask("press button.fan_acknowledge")
    wait_until(lambda: marks()["acknowledged"] is True)
    assistant.ask("press button.fan_snooze_for_an_hour")
    assistant.until("binary_sensor.fan_anomaly", "off")
    assert assistant.state("sensor.fan_state") == "anomaly"
    say(service.broker, f"{BASE}/fan/set/snooze", '{"duration_s": 0}')
    assistant.until("binary_sensor.fan_anomaly", "on")
    assistant.ask('fire mobile_app_notification_action {"action": "STETHOS/pi/fan/snooze"}')
    assistant.until("binary_sensor.fan_anomaly", "off")
    assistant.ask("press button.fan_disable")
    assistant.until("sensor.fan_state", "disabled")
    assistant.until("binary_sensor.fan_anomaly", "unavailable")
    assistant.ask("press button.fan_enable")
    assistant.until("binary_sensor.fan_anomaly", "on")


def _warn(assistant: Assistant, service: Service) -> None:
    """Show warnings, as of a machine whose bundle knows two levels, and say so without ringing."""
    assistant.ask("press button.pump_disable")  # nothing else is said of it meanwhile
    assistant.until("sensor.pump_state", "disabled")
    assistant.until("sensor.pump_severity", "unavailable")
    last = next(message.json for message in reversed(service.watcher.messages) if message.topic == f"{BASE}/fan/state")
    say(service.broker, f"{BASE}/pump/availability", "online", "--retain")
    for state, severity, shown in (
        ("anomaly", "warning", "warning"),
        ("anomaly", "alarm", "alarm"),
        ("normal", None, "none"),
        ("unknown", None, "unknown"),
    ):
        say(service.broker, f"{BASE}/pump/state", json.dumps({**last, "state": state, "severity": severity}), "--retain")
        assistant.until("sensor.pump_severity", shown)
    start = replace(anomaly(1, machine="pump")[0], node="pi", severity="warning")
    for event in (start, replace(start, event_type="update", seq=1, severity="alarm")):
        say(service.broker, f"{BASE}/pump/event", to_json(event.to_dict()))
    wait_until(lambda: [one for one in notified(assistant, "notify") if one["title"] == "pump is worth a look"])
