"""Metrics of all nodes, for Prometheus: one series for each machine and metric, with the labels node and machine."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from monitor.events.event import from_rfc3339
from monitor.overview.fleet import Fleet
from monitor.web.metrics import Family, Samples, families_text

KINDS = ("alarm", "warning", "offline", "unknown", "learning", "starting", "normal", "idle", "disabled")
SEVERITIES = ("warning", "alarm")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The fleet, and counters of the overview itself."""

    fleet: Fleet
    now: float
    history_error: str | None
    history_lost: int
    messages_lost: int


def fleet_metrics(fleet: Fleet, *, history_error: str | None, history_lost: int, messages_lost: int) -> str:
    """All metrics as OpenMetrics text. Values that do not exist are left out."""
    snapshot = Snapshot(
        fleet=fleet, now=time.time(), history_error=history_error, history_lost=history_lost, messages_lost=messages_lost
    )
    return families_text(METRICS, snapshot)


def _kinds(snapshot: Snapshot) -> Samples:
    """One series a machine: its kind is a label, so a change of kind is a new series with the value 1."""
    fleet = snapshot.fleet
    return [((one.node.name, one.name, fleet.kind(key, snapshot.now)[0]), 1.0) for key, one in fleet.machines.items()]


def _counts(snapshot: Snapshot) -> Samples:
    found = dict.fromkeys(KINDS, 0)
    for key in snapshot.fleet.machines:
        found[snapshot.fleet.kind(key, snapshot.now)[0]] += 1
    return [((kind,), float(n)) for kind, n in found.items()]


def _state(name: str) -> Callable[[Snapshot], Samples]:
    """A number or flag of each machine's state, unless the machine's present state is not known."""

    def samples(snapshot: Snapshot) -> Samples:
        found: Samples = []
        for key, machine in snapshot.fleet.machines.items():
            value = None if machine.state is None else getattr(machine.state, name)
            if value is not None and snapshot.fleet.kind(key, snapshot.now)[0] not in ("offline", "unknown"):
                found.append(((machine.node.name, machine.name), float(value)))
        return found

    return samples


def _snoozed(snapshot: Snapshot) -> Samples:
    fleet = snapshot.fleet
    return [
        ((one.node.name, one.name), float(one.state.snoozed_until is not None))
        for one in fleet.machines.values()
        if one.state is not None
    ]


def _heard(snapshot: Snapshot) -> Samples:
    machines = snapshot.fleet.machines.values()
    return [((one.node.name, one.name), one.heard_at) for one in machines if one.heard_at is not None]


def _events(snapshot: Snapshot) -> Samples:
    zeros = {(one.node.name, one.name, severity): 0 for one in snapshot.fleet.machines.values() for severity in SEVERITIES}
    return [(key, float(n)) for key, n in {**zeros, **snapshot.fleet.event_counts}.items()]


def _bundles(snapshot: Snapshot) -> Samples:
    found: Counter[str] = Counter()
    for machine in snapshot.fleet.machines.values():
        info = machine.node.info.machines.get(machine.name) if machine.node.info is not None else None
        found[(info and info.bundle) or "none"] += 1
    return [((bundle,), float(n)) for bundle, n in found.items()]


def _versions(snapshot: Snapshot) -> Samples:
    infos = (node.info for node in snapshot.fleet.nodes.values())
    found = Counter("unknown" if info is None else info.versions.get("stethos", "unknown") for info in infos)
    return [((version,), float(n)) for version, n in found.items()]


def _online(snapshot: Snapshot) -> Samples:
    return [((one.name,), float(one.online)) for one in snapshot.fleet.nodes.values() if one.online is not None]


def _health(name: str, factor: float = 1.0) -> Callable[[Snapshot], Samples]:
    def samples(snapshot: Snapshot) -> Samples:
        values = ((one.name, getattr(one.health, name)) for one in snapshot.fleet.nodes.values() if one.health is not None)
        return [((node,), float(value) * factor) for node, value in values if value is not None]

    return samples


def _health_time(snapshot: Snapshot) -> Samples:
    nodes = snapshot.fleet.nodes.values()
    return [((one.name,), from_rfc3339(one.health.ts).timestamp()) for one in nodes if one.health is not None]


def _one(value: Callable[[Snapshot], Any]) -> Callable[[Snapshot], Samples]:
    return lambda snapshot: [((), float(value(snapshot)))]


def _ignored(snapshot: Snapshot) -> Samples:
    return [((reason,), float(snapshot.fleet.ignored[reason])) for reason in ("topic", "size", "payload", "limit")]


_MACHINE, _NODE = ("node", "machine"), ("node",)
METRICS = (
    Family("stethos_fleet_connected", "gauge", "1 if the broker is connected.", (), _one(lambda s: s.fleet.connected)),
    Family("stethos_fleet_machines", "gauge", "Machines by kind.", ("kind",), _counts),
    Family("stethos_fleet_bundle_machines", "gauge", "Machines by bundle.", ("bundle",), _bundles),
    Family("stethos_fleet_version_nodes", "gauge", "Nodes by version.", ("version",), _versions),
    Family("stethos_fleet_machine_kind", "gauge", "1 for the present kind.", (*_MACHINE, "kind"), _kinds),
    Family("stethos_fleet_machine_ratio", "gauge", "Score / threshold for warnings.", _MACHINE, _state("ratio")),
    Family("stethos_fleet_machine_drift", "gauge", "Shift of normal sound, in standard deviations.", _MACHINE, _state("drift")),
    Family("stethos_fleet_machine_acknowledged", "gauge", "1 if acknowledged.", _MACHINE, _state("acknowledged")),
    Family("stethos_fleet_machine_snoozed", "gauge", "1 if snoozed.", _MACHINE, _snoozed),
    Family("stethos_fleet_machine_heard_timestamp_seconds", "gauge", "When the last state arrived, Unix time.", _MACHINE, _heard),
    Family("stethos_fleet_events", "counter", "Anomalies that began.", (*_MACHINE, "severity"), _events),
    Family("stethos_fleet_node_online", "gauge", "1 if the node is connected to the broker.", _NODE, _online),
    Family("stethos_fleet_node_health_timestamp_seconds", "gauge", "When the node's health was measured.", _NODE, _health_time),
    Family("stethos_fleet_node_queued_events", "gauge", "Events that the broker has not acknowledged.", _NODE, _health("queued")),
    Family("stethos_fleet_node_failures", "counter", "Unexpected errors.", _NODE, _health("failures")),
    Family("stethos_fleet_node_clock_synced", "gauge", "1 if the clock is set.", _NODE, _health("clock_synced")),
    Family("stethos_fleet_node_temperature_celsius", "gauge", "Hottest sensor.", _NODE, _health("temperature_c")),
    Family("stethos_fleet_node_disk_free_bytes", "gauge", "Free space for events.", _NODE, _health("disk_free_mb", 1e6)),
    Family("stethos_fleet_messages", "counter", "Messages received.", (), _one(lambda s: s.fleet.n_messages)),
    Family("stethos_fleet_messages_ignored", "counter", "Messages ignored, by reason.", ("reason",), _ignored),
    Family("stethos_fleet_messages_lost", "counter", "Messages that came too fast.", (), _one(lambda s: s.messages_lost)),
    Family("stethos_fleet_history_ok", "gauge", "0 if it cannot be written.", (), _one(lambda s: s.history_error is None)),
    Family("stethos_fleet_history_lost", "counter", "Rows that the history lost.", (), _one(lambda s: s.history_lost)),
)
