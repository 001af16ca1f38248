"""MQTT device discovery: the messages that add every machine and the node to Home Assistant automatically."""

from dataclasses import dataclass
from typing import Any, get_args

from monitor.events.event import EventType, Severity, State

Entity = dict[str, Any]
NODE = "Node"  # in the topic of the node's own announcement; not a valid machine id
EXTEND = '{"extend": true}'
SNOOZE = '{"duration_s": 3600}'
DIAGNOSTIC = {"entity_category": "diagnostic"}
# An enum cannot be empty, so it is `none` in the state normal. In states without a verdict, None makes the sensor unknown.
_SEVERITY = (
    "{{ (value_json.severity or 'none') if value_json is defined and value_json.state in ('normal', 'anomaly') else None }}"
)
_LEARNED = "{{ (100 * value_json.done_s / value_json.wanted_s) | round(0) if value_json is defined else None }}"


@dataclass(frozen=True, kw_only=True)
class Announced:
    """The node that publishes the announcements. `base` is `<prefix>/<node>`."""

    base: str
    node: str
    version: str


def machine_device(
    us: Announced, *, machine: str, name: str | None, bundle: str | None, is_private: bool = False
) -> dict[str, Any]:
    """The announcement of a machine. Its ids do not depend on the display name.

    The button Learn adds to what was learned before, so that pressing it loses nothing. A private node keeps no sound to add to.
    """
    device = {
        "identifiers": [_unique(us.node, machine)],
        "name": name or machine,
        "manufacturer": "Stethos",
        "model": bundle or "disabled",
        "via_device": _unique(us.node),
    }
    return _announcement(us, device, _machine_entities(us.base, f"{us.base}/{machine}", learn="{}" if is_private else EXTEND))


def node_device(us: Announced) -> dict[str, Any]:
    """The announcement of the node, for its health."""
    device = {
        "identifiers": [_unique(us.node)],
        "name": f"Stethos {us.node}",
        "manufacturer": "Stethos",
        "sw_version": us.version,
    }
    return _announcement(us, device, _node_entities(us.base))


def discovery_topic(*, prefix: str, node: str, device: str) -> str:
    """The topic of the retained announcement of a machine, or of the NODE. An empty payload removes the device."""
    return f"{prefix}/device/{node}/{device}/config"


def _machine_entities(base: str, topic: str, *, learn: str) -> dict[str, Entity]:
    node_is_up = {"topic": f"{base}/status"}
    reachable = {"availability": [node_is_up]}
    audible = {"availability": [node_is_up, {"topic": f"{topic}/availability"}], "availability_mode": "all"}
    state = {"state_topic": f"{topic}/state"}
    attributes = {"json_attributes_topic": f"{topic}/state"}
    measured = {"state_class": "measurement", **state, **audible}
    alarm = _pick(("acknowledged", "snoozed", "snoozed_until", "flooding", "recent_anomalies"))
    online = {"payload_on": "online", "payload_off": "offline", "state_topic": f"{topic}/availability"}
    event = {"event_types": list(get_args(EventType)), "state_topic": f"{topic}/event"}
    return {
        "anomaly": _entity("binary_sensor", "Anomaly", audible, attributes, device_class="problem")
        | {"state_topic": f"{topic}/anomaly", "json_attributes_template": alarm},
        "state": _entity("sensor", "State", state, reachable, attributes, device_class="enum")
        | {"options": list(get_args(State)), "value_template": _value("state")}
        | {"json_attributes_template": _pick(("reason", "since"))},
        "severity": _entity("sensor", "Severity", state, audible, device_class="enum", icon="mdi:alert")
        | {"options": ["none", *get_args(Severity)], "value_template": _SEVERITY},
        "ratio": _entity("sensor", "Score ratio", measured, icon="mdi:chart-bell-curve")
        | {"suggested_display_precision": 2, "value_template": _value("ratio")},
        "level": _entity("sensor", "Level", measured, icon="mdi:volume-medium")
        | {"unit_of_measurement": "dBFS", "value_template": _value("rms_dbfs")},
        "drift": _entity("sensor", "Drift", measured, DIAGNOSTIC, icon="mdi:chart-timeline-variant")
        | {"suggested_display_precision": 1, "value_template": _value("drift")},
        "learning": _entity("sensor", "Learning", reachable, DIAGNOSTIC, icon="mdi:school")
        | {"state_topic": f"{topic}/learning", "unit_of_measurement": "%", "value_template": _LEARNED}
        | {"json_attributes_topic": f"{topic}/learning"}
        | {"json_attributes_template": _pick(("phase", "missing", "problem", "done_s", "wanted_s"))},
        "event": _entity("event", "Event", event, reachable, icon="mdi:ear-hearing"),
        "microphone": _entity("binary_sensor", "Microphone", online, reachable, DIAGNOSTIC, device_class="connectivity"),
        "snapshot": _entity("image", "Last event", reachable, content_type="image/png", image_topic=f"{topic}/snapshot"),
        "ack": _button(topic, "ack", "Acknowledge", "mdi:check", audible),
        "snooze": _button(topic, "snooze", "Snooze for an hour", "mdi:alarm-snooze", audible, SNOOZE),
        "learn": {**_button(topic, "learn", "Learn", "mdi:school", audible, learn), "entity_category": "config"},
        "enable": {**_button(topic, "enable", "Enable", "mdi:ear-hearing", reachable), "entity_category": "config"},
        "disable": {**_button(topic, "disable", "Disable", "mdi:ear-hearing-off", reachable), "entity_category": "config"},
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
    up = {"availability": [{"topic": f"{base}/status"}], "state_topic": f"{base}/health"}
    return {
        key: _entity("sensor", name, up, DIAGNOSTIC, kind, value_template=_value(key)) for key, (name, kind) in figures.items()
    }


def _entity(platform: str, name: str, *parts: Entity, **more: str) -> Entity:
    """An entity merged from these parts."""
    entity: Entity = {"platform": platform, "name": name, **more}
    for part in parts:
        entity |= part
    return entity


def _button(topic: str, command: str, name: str, icon: str, available: Entity, payload: str = "{}") -> Entity:
    return _entity("button", name, available, icon=icon, command_topic=f"{topic}/set/{command}", payload_press=payload)


def _value(key: str) -> str:
    """A template for one key of a message. It gives None for an empty message, which means that the topic was cleared."""
    return f"{{{{ value_json.{key} if value_json is defined else None }}}}"


def _pick(keys: tuple[str, ...]) -> str:
    """A template that turns the given keys of a message into attributes."""
    picked = ", ".join(f"'{key}': value_json.{key}" for key in keys)
    return f"{{{{ {{{picked}}} | tojson if value_json is defined else '{{}}' }}}}"


def _announcement(us: Announced, device: dict[str, Any], entities: dict[str, Entity]) -> dict[str, Any]:
    (unique,) = device["identifiers"]
    components = {key: {"unique_id": f"{unique}.{key}", **entity} for key, entity in entities.items()}
    return {"device": device, "origin": {"name": "Stethos", "sw_version": us.version}, "components": components, "qos": 1}


def _unique(*parts: str) -> str:
    """An id that is unique because the ids of nodes and machines contain no dots."""
    return ".".join(("stethos", *parts))
