"""Metrics of a node in OpenMetrics text, for Prometheus and others that read its format.

    metrics_text(node, machines, states, *, event_counts=None) -> str      the body of GET /metrics
    CONTENT_TYPE                                                           its Content-Type

`node`, `machines` and `states` are the `data` of the latest lines of the control socket's `watch` (docs/control.md): of kind
`node`, of kind `machine` by machine, and of kind `state` by machine. `event_counts` is the number of anomalies that began since
the start of the page, by (machine, severity). Pass `node=None` while the service cannot be reached: its last values are out of
date, so only `stethos_up 0` is returned. The function reads no clock and no file. docs/metrics.md lists every metric.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from monitor.events.event import Severity, State, from_rfc3339

CONTENT_TYPE: str = CONTENT_TYPE_LATEST
Data = Mapping[str, Any]
Samples = list[tuple[tuple[str, ...], float]]  # label values and the value
UNITS = ("seconds", "bytes", "ratio", "celsius", "dbfs")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The latest data of a node; the arguments of `metrics_text`."""

    node: Data | None
    machines: Mapping[str, Data]
    states: Mapping[str, Data]
    event_counts: Mapping[tuple[str, str], int] | None


@dataclass(frozen=True)
class Family:
    """One metric: its name without the suffix of its type, its help text, and where its samples come from."""

    name: str
    kind: str  # gauge, counter or info
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Any], Samples]  # of a `Snapshot` for the metrics of a node

    @property
    def sample_name(self) -> str:
        """The name to query."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


def metrics_text(
    node: Data | None,
    machines: Mapping[str, Data],
    states: Mapping[str, Data],
    *,
    event_counts: Mapping[tuple[str, str], int] | None = None,
) -> str:
    """All metrics as OpenMetrics text. Values that do not exist are left out."""
    snapshot = Snapshot(node=node, machines=machines, states=states, event_counts=event_counts)
    return families_text(METRICS[:1] if node is None else METRICS, snapshot)


def families_text(families: Sequence[Family], snapshot: object) -> str:
    """The samples that each family takes from the snapshot, as OpenMetrics text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families, snapshot))
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text.decode()


class _Families(Collector):
    def __init__(self, families: Sequence[Family], snapshot: object) -> None:
        self._families = families
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            if samples := family.samples(self._snapshot):
                yield _metric(family, samples)


def _metric(family: Family, samples: Samples) -> Metric:
    if family.kind == "info":
        info = InfoMetricFamily(family.name, family.help)
        for values, _ in samples:
            info.add_metric([], dict(zip(family.labels, values, strict=True)))
        return info
    unit = next((unit for unit in UNITS if family.name.endswith(f"_{unit}")), "")
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric: GaugeMetricFamily | CounterMetricFamily = make(family.name, family.help, labels=family.labels, unit=unit)
    for values, value in samples:
        metric.add_metric(values, value)
    return metric


def _state(key: str) -> Callable[[Snapshot], Samples]:
    """A number or flag of each machine's state."""

    def samples(snapshot: Snapshot) -> Samples:
        return [((name,), float(state[key])) for name, state in snapshot.states.items() if state.get(key) is not None]

    return samples


def _one_of(key: str, values: tuple[str, ...]) -> Callable[[Snapshot], Samples]:
    """1 for the present value of a key of each machine's state, 0 for its other values."""

    def samples(snapshot: Snapshot) -> Samples:
        return [((name, one), float(state.get(key) == one)) for name, state in snapshot.states.items() for one in values]

    return samples


def _health(key: str, factor: float = 1.0) -> Callable[[Snapshot], Samples]:
    """A number or flag of the node's health."""

    def samples(snapshot: Snapshot) -> Samples:
        value = _of(snapshot.node, "health").get(key)
        return [] if value is None else [((), float(value) * factor)]

    return samples


def _of(data: Data | None, key: str) -> Data:
    found = (data or {}).get(key)
    return found if isinstance(found, Mapping) else {}


def _timestamp(text: str) -> float:
    return from_rfc3339(text).timestamp()


def _since(snapshot: Snapshot) -> Samples:
    return [((name,), _timestamp(state["since"])) for name, state in snapshot.states.items() if state.get("since")]


def _health_time(snapshot: Snapshot) -> Samples:
    moment = _of(snapshot.node, "health").get("ts")
    return [] if moment is None else [((), _timestamp(moment))]


def _build(snapshot: Snapshot) -> Samples:
    versions = _of(_of(snapshot.node, "info"), "versions")
    named = {"version": versions.get("stethos", ""), **{key: versions.get(key, "") for key in ("python", "system", "numpy")}}
    return [((str((snapshot.node or {}).get("node", "")), *named.values()), 1.0)]


def _machine_info(snapshot: Snapshot) -> Samples:
    """Includes machines that are not running."""
    listed = _of(_of(snapshot.node, "info"), "machines")
    found = {name: {**listed.get(name, {}), **snapshot.machines.get(name, {})} for name in {**listed, **snapshot.machines}}
    return [((name, one.get("name") or name, one.get("bundle") or ""), 1.0) for name, one in found.items()]


def _events(snapshot: Snapshot) -> Samples:
    """Known machines have a 0 before their first event, so that `increase()` counts that one, too."""
    if snapshot.event_counts is None:
        return []
    zeros = {(name, severity): 0 for name in snapshot.states for severity in get_args(Severity)}
    return [(key, float(n)) for key, n in {**zeros, **snapshot.event_counts}.items()]


def _microphones(snapshot: Snapshot) -> Samples:
    """By selector; microphones of several rates may share one."""
    found = (snapshot.node or {}).get("microphones") or ()
    works: dict[str, bool] = {}
    for one in found:
        works[str(one["selector"])] = works.get(str(one["selector"]), True) and one.get("trouble") is None
    return [((selector,), float(ok)) for selector, ok in works.items()]


def _connected(snapshot: Snapshot) -> Samples:
    mqtt = _of(snapshot.node, "mqtt")
    return [((), float(mqtt["connected"]))] if "connected" in mqtt else []


def _on_disk(snapshot: Snapshot) -> Samples:
    health = _of(snapshot.node, "health")
    return [((), float(health["outbox_error"] is None))] if "outbox_error" in health else []


def _up(snapshot: Snapshot) -> Samples:
    return [((), float(snapshot.node is not None))]


_MACHINE = ("machine",)
METRICS = (
    Family("stethos_up", "gauge", "1 if the service answers on its control socket.", (), _up),
    Family("stethos_build", "info", "Node and versions.", ("node", "version", "python", "system", "numpy"), _build),
    Family("stethos_machine", "info", "Configured machines.", ("machine", "name", "bundle"), _machine_info),
    Family("stethos_machine_state", "gauge", "1 for the present state.", ("machine", "state"), _one_of("state", get_args(State))),
    Family(
        "stethos_machine_severity",
        "gauge",
        "1 for the severity of the open anomaly.",
        ("machine", "severity"),
        _one_of("severity", get_args(Severity)),
    ),
    Family(
        "stethos_machine_state_since_timestamp_seconds", "gauge", "When the present state began, Unix time.", _MACHINE, _since
    ),
    Family("stethos_machine_ratio", "gauge", "Score / threshold for warnings.", _MACHINE, _state("ratio")),
    Family("stethos_machine_score", "gauge", "Score of the last segment.", _MACHINE, _state("score")),
    Family("stethos_machine_threshold", "gauge", "Threshold for warnings.", _MACHINE, _state("threshold")),
    Family("stethos_machine_level_dbfs", "gauge", "Level of the last tick, dB of full scale.", _MACHINE, _state("rms_dbfs")),
    Family("stethos_machine_clipped_ratio", "gauge", "Fraction of samples at full scale.", _MACHINE, _state("clipped_fraction")),
    Family("stethos_machine_drift", "gauge", "Shift of normal sound, in standard deviations.", _MACHINE, _state("drift")),
    Family("stethos_machine_acknowledged", "gauge", "1 if the alarm is acknowledged.", _MACHINE, _state("acknowledged")),
    Family("stethos_machine_snoozed", "gauge", "1 if the alarm is snoozed.", _MACHINE, _state("snoozed")),
    Family("stethos_machine_flooding", "gauge", "1 during a flood of alarms.", _MACHINE, _state("flooding")),
    Family("stethos_machine_recent_alarms", "gauge", "Alarms of the last 10 minutes.", _MACHINE, _state("recent_anomalies")),
    Family("stethos_events", "counter", "Anomalies that began, by severity.", ("machine", "severity"), _events),
    Family("stethos_microphone_ok", "gauge", "0 if the microphone delivers no sound.", ("microphone",), _microphones),
    Family("stethos_node_uptime_seconds", "gauge", "Uptime of the service.", (), _health("uptime_s")),
    Family("stethos_node_memory_bytes", "gauge", "Resident memory of all its processes.", (), _health("memory_mb", 1e6)),
    Family("stethos_node_cpu_ratio", "gauge", "CPU time of all its processes, 1 = one core.", (), _health("cpu_percent", 0.01)),
    Family("stethos_node_temperature_celsius", "gauge", "Hottest sensor of the computer.", (), _health("temperature_c")),
    Family("stethos_node_disk_free_bytes", "gauge", "Free space for events.", (), _health("disk_free_mb", 1e6)),
    Family("stethos_node_clock_synced", "gauge", "1 if the clock is synchronised.", (), _health("clock_synced")),
    Family("stethos_node_health_timestamp_seconds", "gauge", "When the values of the node were measured.", (), _health_time),
    Family("stethos_broker_connected", "gauge", "1 if the MQTT broker is connected.", (), _connected),
    Family("stethos_outbox_events", "gauge", "Events that the broker has not acknowledged.", (), _health("queued")),
    Family("stethos_outbox_parked_events", "gauge", "Events that the broker does not accept.", (), _health("parked")),
    Family("stethos_outbox_on_disk", "gauge", "0 if events are in memory only.", (), _on_disk),
    Family("stethos_outbox_dropped_events", "counter", "Events dropped.", (), _health("dropped")),
    Family("stethos_clips_lost", "counter", "Clips and pictures that were not written.", (), _health("clips_lost")),
    Family("stethos_commands_dropped", "counter", "Commands dropped because of their rate.", (), _health("commands_dropped")),
    Family("stethos_failures", "counter", "Unexpected errors.", (), _health("failures")),
    Family("stethos_overruns", "counter", "Microphones delivered more than could be read.", (), _health("overruns")),
    Family("stethos_gap_seconds", "counter", "Missing sound of all machines.", (), _health("gap_s")),
    Family("stethos_last_frame_age_seconds", "gauge", "Age of the oldest last frame.", (), _health("last_frame_age_s")),
    Family("stethos_notifications_queued", "gauge", "Notifications not delivered yet.", (), _health("notifications_queued")),
    Family("stethos_notifications_failed", "counter", "Failed attempts to notify.", (), _health("notifications_failed")),
    Family("stethos_notifications_dropped", "counter", "Notifications dropped.", (), _health("notifications_dropped")),
)
