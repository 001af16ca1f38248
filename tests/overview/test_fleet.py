"""The state of the fleet: when a state counts, and when it is unknown. Time is handed in."""

import json
import random
import tracemalloc

import pytest

from benchmarks.speed import plant_messages
from monitor.config.fleet import FleetConfig
from monitor.overview.fleet import Fleet

SINCE = "2026-11-21T10:00:00.000Z"


def state(kind: str, ratio: float | None = 0.5, reason: str | None = None) -> bytes:
    return plant_messages.state(kind, ratio, since=SINCE, reason=reason).encode()


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet(FleetConfig(silent_after_s=90))
    fleet.set_connected(True)
    fleet.take("saw/status", b"online", retained=True, now=0.0)
    return fleet


def take(fleet: Fleet, topic: str, payload: bytes, now: float, *, retained: bool = False) -> None:
    fleet.take(topic, payload, retained=retained, now=now)


def test_a_machine_that_falls_silent_is_not_normal(fleet: Fleet) -> None:
    take(fleet, "saw/fan/state", state("normal"), 100.0)
    assert fleet.kind("saw/fan", 190.0) == ("normal", None)
    take(fleet, "saw/health", plant_messages.health(random.Random(0)).encode(), 190.0)  # the node lives
    assert fleet.kind("saw/fan", 190.1) == ("unknown", "silent")


def test_a_clock_that_is_set_back_hides_no_silence(fleet: Fleet) -> None:
    take(fleet, "saw/fan/state", state("normal"), 100_000.0)
    assert fleet.kind("saw/fan", 96_400.0) == ("unknown", "silent")
    take(fleet, "saw/fan/state", state("normal"), 96_401.0)
    assert fleet.kind("saw/fan", 96_402.0) == ("normal", None)


@pytest.mark.parametrize("key, value", [("onset_ts", "9999-12-31T23:59:59.000Z"), ("peak_ratio", 1e308), ("duration_s", -1e10)])
def test_an_event_of_absurd_values_is_ignored(fleet: Fleet, key: str, value: object) -> None:
    message = json.loads(plant_messages.event("saw", "fan"))
    take(fleet, "saw/fan/event", json.dumps({**message, key: value}).encode(), 100.0)
    assert fleet.events == {}
    assert sum(fleet.ignored.values()) == 1


def test_a_disabled_machine_needs_only_its_node(fleet: Fleet) -> None:
    take(fleet, "saw/fan/state", state("disabled", None, "command"), 100.0)
    assert fleet.kind("saw/fan", 280.0) == ("disabled", "command")
    assert fleet.kind("saw/fan", 280.1) == ("unknown", "silent")


def test_a_retained_state_is_not_believed(fleet: Fleet) -> None:
    take(fleet, "saw/fan/state", state("normal"), 100.0, retained=True)
    assert fleet.kind("saw/fan", 100.0) == ("unknown", "not_heard")
    take(fleet, "saw/fan/state", state("normal"), 105.0)
    assert fleet.kind("saw/fan", 105.0) == ("normal", None)


def test_offline_comes_before_everything_but_the_broker(fleet: Fleet) -> None:
    take(fleet, "saw/fan/state", state("alarm", 3.0), 100.0)
    assert fleet.kind("saw/fan", 100.0) == ("alarm", None)
    take(fleet, "saw/status", b"offline", 101.0)
    assert fleet.kind("saw/fan", 101.0) == ("offline", None)
    fleet.set_connected(False, "away")
    assert fleet.kind("saw/fan", 101.0) == ("unknown", "no_broker")


def test_a_machine_without_microphone_is_not_normal(fleet: Fleet) -> None:
    take(fleet, "saw/fan/availability", b"offline", 100.0)
    take(fleet, "saw/fan/state", state("normal"), 100.0)
    assert fleet.kind("saw/fan", 100.0) == ("unknown", "unavailable")


def test_an_event_that_is_repeated_counts_once(fleet: Fleet) -> None:
    start = plant_messages.event("saw", "fan").encode()
    id_ = json.loads(start)["id"]
    for _ in range(3):
        take(fleet, "saw/fan/event", start, 100.0)
    take(fleet, "saw/fan/event", plant_messages.event("saw", "fan", kind="end", seq=4, id_=id_).encode(), 130.0)
    take(fleet, "saw/fan/event", start, 140.0)
    assert fleet.event_counts == {("saw", "fan", "alarm"): 1}
    assert [(one["seq"], one["event_type"]) for one in fleet.events.values()] == [(4, "end")]
    take(fleet, "other/fan/event", plant_messages.event("other", "fan", seq=9, id_=id_).encode(), 150.0)  # of somebody else
    assert fleet.events[id_]["node"] == "saw"


def test_a_connection_that_flaps_writes_no_history(fleet: Fleet) -> None:
    take(fleet, "saw/fan/state", state("normal"), 100.0)
    assert [one.kind for one in fleet.take_changes().kinds] == ["normal"]
    for now in (101.0, 102.0, 103.0):
        fleet.set_connected(False, "away")
        fleet.update(now)
        fleet.set_connected(True)
        take(fleet, "saw/fan/state", state("normal"), now + 0.5)
    assert fleet.take_changes().kinds == []
    take(fleet, "saw/fan/state", state("warning", 1.4), 110.0)
    assert [(one.kind, one.ratio) for one in fleet.take_changes().kinds] == [("warning", 1.4)]


def test_memory_is_bounded_whatever_arrives() -> None:
    fleet = Fleet(FleetConfig(max_machines=100))
    fleet.set_connected(True)
    sizes = []
    tracemalloc.start()
    for turn in range(4):
        for number in range(2_000):
            name = f"n-{turn * 2_000 + number}"
            take(fleet, f"{name}/fan/state", state("normal"), float(number))
            take(fleet, f"{name}/info", plant_messages.info({"fan": None}).encode(), float(number))
            take(fleet, f"n-{number % 100}/fan/event", plant_messages.event("n", "fan").encode(), float(number))
            fleet.take_changes()
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert (len(fleet.machines), len(fleet.events)) == (100, 300)
    assert sizes[-1] < 1.1 * sizes[0]
    assert fleet.ignored["limit"] > 10_000
