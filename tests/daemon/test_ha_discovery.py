"""Retained topics of a node and its machines are cleared when they are no longer configured."""

from pathlib import Path

from monitor.bundle import Bundle
from monitor.config import Config
from monitor.daemon.ha_discovery import HomeAssistantDiscovery
from monitor.mqtt.sink import MqttSink
from tests.broker import Broker, running_broker
from tests.subscriber import retained
from tests.waiting import wait_until


def run(broker: Broker, folder: Path, left: frozenset[str], settings: dict[str, object]) -> frozenset[str]:
    """One run of the service; returns what the next one has to know."""
    config = Config.model_validate({"node": "pi", "mqtt": {"port": broker.port}, **settings})
    bundles: dict[str, Bundle] = {}
    assert config.mqtt is not None
    sink = MqttSink(config.mqtt, node=config.node, state_dir=folder)
    announcer = HomeAssistantDiscovery(sink, left=left)
    for machine in config.machines:
        for leaf in ("availability", "anomaly"):
            sink.publish_retained(f"{machine}/{leaf}", "offline" if leaf == "availability" else "None")
    announcer.apply_config(config, bundles)
    sink.start()
    wait_until(lambda: sink.counts.connected and sink.is_idle)
    assert sink.stop(5.0) == 0
    return announcer.topics


def machines(*names: str, **more: str) -> dict[str, object]:
    return {"machines": {name: {"bundle": "demo-fan", "channel": number, **more} for number, name in enumerate(names, start=1)}}


def test_a_machine_that_leaves_and_a_node_with_another_name_leave_nothing_behind(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        left = run(broker, tmp_path, frozenset(), machines("fan", "pump"))
        assert {"stethos/pi/pump/anomaly", "homeassistant/device/pi/pump/config"} <= set(retained(broker))
        left = run(broker, tmp_path, left, machines("fan"))
        kept = set(retained(broker))
        assert not [topic for topic in kept if "pump" in topic]
        assert "stethos/pi/status" in kept
        left = run(broker, tmp_path, left, machines("fan", name="Fan 3") | {"node": "hall-2"})
        kept = set(retained(broker))
        assert {"stethos/hall-2/status", "stethos/hall-2/fan/anomaly", "homeassistant/device/hall-2/Node/config"} <= kept
        assert not [topic for topic in kept if "/pi/" in topic]
        run(broker, tmp_path, left, machines("fan") | {"node": "hall-2", "home_assistant": {"enabled": False}})
        assert not [topic for topic in retained(broker) if topic.startswith("homeassistant/")]
