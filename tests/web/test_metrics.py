"""The metrics are valid OpenMetrics, complete, and documented."""

from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from monitor.web.metrics import METRICS, metrics_text

STATE: dict[str, Any] = {
    "schema": 1, "state": "anomaly", "reason": None, "severity": "alarm", "acknowledged": True, "snoozed": False,
    "snoozed_until": None, "flooding": False, "recent_anomalies": 1, "score": 13.94, "ratio": 3.5375, "threshold": 3.94,
    "rms_dbfs": -35.1, "peak": 0.0591, "dc": -0.00003, "clipped_fraction": 0.25, "zero_fraction": 0.0003, "drift": 0.31,
    "slow_path": "learning", "slow_path_missing_h": 5.75, "slow_path_ratio": None, "since": "2026-11-21T10:00:46.080Z",
}  # fmt: skip
DEAF = {**dict.fromkeys(STATE), "schema": 1, "state": "unknown", "reason": "microphone_lost", "since": "2026-11-21T10:00:00.000Z"}
HEALTH: dict[str, Any] = {
    "schema": 1, "ts": "2026-11-21T10:00:00.000Z", "uptime_s": 86400, "memory_mb": 92.4, "cpu_percent": 1.9,
    "temperature_c": 51.2, "disk_free_mb": 11874.3, "queued": 3, "dropped": 2, "parked": 1, "last_parked": "x",
    "outbox_error": None, "clips_lost": 4, "commands_dropped": 5, "failures": 6, "clock_synced": True, "overruns": 7,
    "gap_s": 1.5, "last_frame_age_s": 0.1, "notifications_queued": 8, "notifications_failed": 9, "notifications_dropped": 10,
}  # fmt: skip
NODE: dict[str, Any] = {
    "node": "hall-2",
    "info": {
        "schema": 1,
        "versions": {"stethos": "0.2.0", "python": "3.11.7", "system": "Linux aarch64", "numpy": "2.4.6"},
        "machines": {"fan": {"name": 'Fan "3", hall 2', "microphone": "default", "bundle": "demo-fan@08dec4fc3aea"}},
    },
    "health": HEALTH,
    "mqtt": {"connected": True, "queued": 3},
    "microphones": [{"selector": "default", "trouble": None}, {"selector": "name:mic", "trouble": "lost"}],
}
MACHINES: dict[str, dict[str, Any]] = {"fan": {"name": "Fan 3", "bundle": "demo-fan@08dec4fc3aea"}, "pump": {"name": None}}


def everything() -> str:
    return metrics_text(NODE, MACHINES, {"fan": STATE, "pump": DEAF}, event_counts={("fan", "alarm"): 2})


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Values by name and label values, read by the reference parser of OpenMetrics."""
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return {(one.name, tuple(one.labels.values())): one.value for family in families for one in family.samples}


def test_every_metric_has_its_value_in_its_unit() -> None:
    found = samples(everything())
    assert {name for name, _ in found} == {family.sample_name for family in METRICS}
    assert found["stethos_up", ()] == 1
    assert found["stethos_machine_ratio", ("fan",)] == 3.5375
    assert found["stethos_machine_level_dbfs", ("fan",)] == -35.1
    assert found["stethos_machine_state_since_timestamp_seconds", ("fan",)] == 1795255246.08
    assert found["stethos_node_memory_bytes", ()] == 92.4e6
    assert found["stethos_node_cpu_ratio", ()] == 0.019
    assert found["stethos_gap_seconds_total", ()] == 1.5
    assert found["stethos_microphone_ok", ("name:mic",)] == 0
    assert found["stethos_events_total", ("fan", "alarm")] == 2
    assert found["stethos_events_total", ("pump", "warning")] == 0


def test_exactly_one_state_of_a_machine_is_1() -> None:
    found = samples(everything())
    states = {labels: value for (name, labels), value in found.items() if name == "stethos_machine_state"}
    assert sum(states.values()) == 2
    assert states["fan", "anomaly"] == states["pump", "unknown"] == 1


def test_a_value_that_does_not_exist_is_left_out() -> None:
    found = samples(everything())
    assert ("stethos_machine_ratio", ("pump",)) not in found
    without = samples(metrics_text({**NODE, "mqtt": None, "health": {}}, {}, {}))
    assert {name for name, _ in without} == {"stethos_up", "stethos_build_info", "stethos_machine_info", "stethos_microphone_ok"}


def test_without_the_service_nothing_old_is_shown() -> None:
    assert samples(metrics_text(None, MACHINES, {"fan": STATE})) == {("stethos_up", ()): 0.0}


def test_the_page_lists_every_metric_with_its_labels_and_help(root: Path) -> None:
    rows = [line for line in (root / "docs" / "metrics.md").read_text().splitlines() if line.startswith("| `stethos_")]
    expected = [
        f"| `{one.sample_name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels) or 'none'} | {one.help} |"
        for one in METRICS
    ]
    assert rows == expected
