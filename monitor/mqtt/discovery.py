"""What Home Assistant is told so that it shows every machine by itself: its MQTT device discovery."""

from dataclasses import dataclass
from typing import Any, get_args

from monitor.events.event import EventType, Severity
from monitor.events.pipeline import State

Entity = dict[str, Any]
NODE = "Node"  # where a node's own announcement goes; no machine can be called so
SNOOZE = '{"duration_s": 3600}'
DIAGNOSTIC = {"entity_category": "diagnostic"}
# An enum cannot be empty: `none` while the state is normal. Where nobody can say, None makes the sensor unknown.
_SEVERITY = (
    "{{ (value_json.severity or 'none') if value_json is defined and value_json.state in ('normal', 'anomaly') else None }}"
)


@dataclass(frozen=True, kw_only=True)
class Announced:
    """Who announces: `base` is `<prefix>/<node>`."""

    base: str
    node: str
    version: str


def machine_device(us: Announced, *, machine: str, name: str | None, bundle: str | None) -> dict[str, Any]:
    """The announcement of one machine. Its ids do not depend on what people call it."""
    device = {
        "identifiers": [_unique(us.node, machine)],
        "name": name or machine,
        "manufacturer": "Stethos",
        "model": bundle or "disabled",
        "via_device": _unique(us.node),
    }
    return _announcement(us, device, _machine_entities(us.base, f"{us.base}/{machine}"))


def node_device(us: Announced) -> dict[str, Any]:
    """The announcement of the computer itself: how it is."""
    device = {
        "identifiers": [_unique(us.node)],
        "name": f"Stethos {us.node}",
        "manufacturer": "Stethos",
        "sw_version": us.version,
    }
    return _announcement(us, device, _node_entities(us.base))


def discovery_topic(*, prefix: str, node: str, device: str) -> str:
    """Where the announcement of a machine, or of the NODE, is retained; empty it removes the device."""
    return f"{prefix}/device/{node}/{device}/config"


def _machine_entities(base: str, here: str) -> dict[str, Entity]:
    node_is_up = {"topic": f"{base}/status"}
    reachable = {"availability": [node_is_up]}
    heard = {"availability": [node_is_up, {"topic": f"{here}/availability"}], "availability_mode": "all"}
    state = {"state_topic": f"{here}/state"}
    marks = "acknowledged", "snoozed", "snoozed_until", "flooding", "recent_anomalies"
    return {
        "anomaly": {
            "platform": "binary_sensor",
            "name": "Anomaly",
            "device_class": "problem",
            "state_topic": f"{here}/anomaly",
            "json_attributes_topic": f"{here}/state",
            "json_attributes_template": _pick(marks),
            **heard,
        },
        "state": {
            "platform": "sensor",
            "name": "State",
            "device_class": "enum",
            "options": list(get_args(State)),
            "value_template": _value("state"),
            "json_attributes_topic": f"{here}/state",
            "json_attributes_template": _pick(("reason", "since")),
            **state,
            **reachable,
        },
        "severity": {
            "platform": "sensor",
            "name": "Severity",
            "device_class": "enum",
            "icon": "mdi:alert",
            "options": ["none", *get_args(Severity)],
            "value_template": _SEVERITY,
            **state,
            **heard,
        },
        "ratio": {
            "platform": "sensor",
            "name": "Score ratio",
            "icon": "mdi:chart-bell-curve",
            "state_class": "measurement",
            "suggested_display_precision": 2,
            "value_template": _value("ratio"),
            **state,
            **heard,
        },
        "level": {
            "platform": "sensor",
            "name": "Level",
            "icon": "mdi:volume-medium",
            "unit_of_measurement": "dBFS",
            "state_class": "measurement",
            "value_template": _value("rms_dbfs"),
            **state,
            **heard,
        },
        "drift": {
            "platform": "sensor",
            "name": "Drift",
            "icon": "mdi:chart-timeline-variant",
            "state_class": "measurement",
            "suggested_display_precision": 1,
            "value_template": _value("drift"),
            **state,
            **heard,
            **DIAGNOSTIC,
        },
        "event": {
            "platform": "event",
            "name": "Event",
            "icon": "mdi:ear-hearing",
            "event_types": list(get_args(EventType)),
            "state_topic": f"{here}/event",
            **reachable,
        },
        "microphone": {
            "platform": "binary_sensor",
            "name": "Microphone",
            "device_class": "connectivity",
            "payload_on": "online",
            "payload_off": "offline",
            "state_topic": f"{here}/availability",
            **reachable,
            **DIAGNOSTIC,
        },
        "snapshot": {
            "platform": "image",
            "name": "Last event",
            "content_type": "image/png",
            "image_topic": f"{here}/snapshot",
            **reachable,
        },
        "ack": _button(here, "ack", "Acknowledge", "mdi:check", heard),
        "snooze": _button(here, "snooze", "Snooze for an hour", "mdi:alarm-snooze", heard, SNOOZE),
        "enable": {**_button(here, "enable", "Enable", "mdi:ear-hearing", reachable), "entity_category": "config"},
        "disable": {**_button(here, "disable", "Disable", "mdi:ear-hearing-off", reachable), "entity_category": "config"},
    }


def _node_entities(base: str) -> dict[str, Entity]:
    memory = {"device_class": "data_size", "unit_of_measurement": "MB", "state_class": "measurement"}
    share = {"unit_of_measurement": "%", "state_class": "measurement", "icon": "mdi:cpu-64-bit"}
    heat = {"device_class": "temperature", "unit_of_measurement": "°C", "state_class": "measurement"}
    lasting = {"device_class": "duration", "unit_of_measurement": "s"}
    figures: dict[str, tuple[str, Entity]] = {
        "temperature_c": ("Temperature", heat),
        "cpu_percent": ("CPU", share),
        "memory_mb": ("Memory", memory),
        "disk_free_mb": ("Free disk", memory),
        "uptime_s": ("Uptime", lasting),
        "last_frame_age_s": ("Age of the last sound", lasting),
        "gap_s": ("Lost sound", {**lasting, "state_class": "total_increasing"}),
        "queued": ("Undelivered events", {"state_class": "measurement", "icon": "mdi:tray-full"}),
        "dropped": ("Dropped events", {"state_class": "total_increasing", "icon": "mdi:tray-alert"}),
    }
    return {
        key: {
            "platform": "sensor",
            "name": name,
            "state_topic": f"{base}/health",
            "value_template": _value(key),
            "availability": [{"topic": f"{base}/status"}],
            **DIAGNOSTIC,
            **kind,
        }
        for key, (name, kind) in figures.items()
    }


def _button(here: str, command: str, name: str, icon: str, available: Entity, payload: str = "{}") -> Entity:
    topic = f"{here}/set/{command}"
    return {"platform": "button", "name": name, "icon": icon, "command_topic": topic, "payload_press": payload, **available}


def _value(key: str) -> str:
    """A template that takes one key of a message; of none when the message is empty, taken back."""
    return f"{{{{ value_json.{key} if value_json is defined else None }}}}"


def _pick(keys: tuple[str, ...]) -> str:
    """A template that makes attributes of some of a message's keys."""
    picked = ", ".join(f"'{key}': value_json.{key}" for key in keys)
    return f"{{{{ {{{picked}}} | tojson if value_json is defined else '{{}}' }}}}"


def _announcement(us: Announced, device: dict[str, Any], entities: dict[str, Entity]) -> dict[str, Any]:
    (unique,) = device["identifiers"]
    components = {key: {"unique_id": f"{unique}.{key}", **entity} for key, entity in entities.items()}
    return {"device": device, "origin": {"name": "Stethos", "sw_version": us.version}, "components": components, "qos": 1}


def _unique(*parts: str) -> str:
    """Nodes and machines have no dots in their names, so no two are alike."""
    return ".".join(("stethos", *parts))
