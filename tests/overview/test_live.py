"""The real overview at a real broker: states, ages, commands, hostile messages, restarts of the broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Broker, running_broker
from tests.overview.rig import Overview, Plant
from tests.waiting import wait_until
from tests.web.page_process import ADMIN, VIEWER

pytestmark = pytest.mark.waits
ID = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as running:
        yield running


@pytest.fixture
def overview(tmp_path: Path, broker: Broker) -> Iterator[Overview]:
    groups = {"hall 1": ["n-00[01]"], "fans": ["n-*/fan"]}
    with Overview(tmp_path / "fleet", broker_port=broker.port, more={"groups": groups}) as overview:
        yield overview


def test_states_events_versions_and_groups_arrive(broker: Broker, overview: Overview) -> None:
    with Plant(broker, 3) as plant:
        overview.open()
        wait_until(lambda: overview.fleet()["connected"], what="the connection")
        plant.births().states()
        plant.state("n-001", "alarm", 3.2)
        plant.event("n-001", id_=ID)
        alarm = overview.wait_for_kind("n-001/fan", "alarm")
        assert (alarm["ratio"], alarm["name"], alarm["groups"]) == (3.2, "Fan 1", ["hall 1", "fans"])
        wait_until(lambda: overview.row("n-001/fan")["event"], what="the event")
        assert overview.row("n-001/fan")["event"]["id"] == ID
        assert overview.wait_for_kind("n-002/fan", "normal")["groups"] == ["fans"]
        fleet = overview.fleet()
        assert fleet["nodes"]["n-001"]["versions"]["stethos"] == "0.4.0"
        assert [one["id"] for one in fleet["events"]] == [ID]


def test_what_was_retained_is_unknown_until_the_node_is_heard(broker: Broker, overview: Overview) -> None:
    with Plant(broker, 2) as plant:
        plant.births().states()
        overview.open()
        wait_until(lambda: overview.fleet()["connected"], what="the connection")
        wait_until(lambda: overview.row("n-000/fan")["reason"] == "not_heard", what="the first rows")
        assert overview.row("n-000/fan")["heard"] is None
        plant.state("n-000")
        overview.wait_for_kind("n-000/fan", "normal")
        plant.send("n-000/status", "offline")
        overview.wait_for_kind("n-000/fan", "offline")
        assert overview.row("n-001/fan")["kind"] == "unknown"


def test_only_an_administrator_acknowledges_and_the_answer_is_the_nodes(broker: Broker, overview: Overview) -> None:
    with Plant(broker, 1) as plant:
        overview.open()
        wait_until(lambda: overview.fleet()["connected"], what="the connection")
        plant.births()
        plant.state("n-000", "alarm", 3.0)
        overview.wait_for_kind("n-000/fan", "alarm")
        admin, viewer = overview.client().login(ADMIN), overview.client().login(VIEWER)
        assert viewer.post("api/fleet/n-000/fan/ack").status == 403
        assert overview.client().get("api/fleet").status == 401
        assert plant.commands == []
        answer = admin.post("api/fleet/n-000/fan/ack", {"id": ID})
        assert (answer.status, answer.json["accepted"]) == (200, True)
        assert plant.commands[0][0] == "n-000/fan ack"
        assert plant.commands[0][1]["id"] == ID
        refused = admin.post("api/fleet/n-000/fan/snooze", {"duration_s": 600})
        assert (refused.status, refused.json["detail"]) == (409, "no alarm is open")
        assert admin.post("api/fleet/n-000/fan/snooze", {"duration_s": -1}).status == 422
        assert admin.post("api/fleet/n-000/other/ack").status == 404
        plant.answers = False
        assert admin.post("api/fleet/n-000/fan/ack").status == 504
        plant.send("n-000/status", b"offline")
        overview.wait_for_kind("n-000/fan", "offline")
        refused = admin.post("api/fleet/n-000/fan/ack")
        assert (refused.status, refused.json["detail"]) == (409, "the node is not connected to the broker")


def test_the_picture_of_the_last_event_is_fetched_when_asked_for(broker: Broker, overview: Overview) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 390  # as large as they get
    with Plant(broker, 1) as plant:
        overview.open(passwords=False)
        plant.births().states()
        wait_until(lambda: overview.row("n-000/fan"), what="the machine")
        client = overview.client()
        assert client.get("api/fleet/n-000/fan/picture.png").status == 404
        plant.send("n-000/fan/snapshot", png)
        answer = client.get("api/fleet/n-000/fan/picture.png")
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, "image/png", png)


def test_hostile_topics_and_payloads_are_ignored_and_counted(tmp_path: Path, broker: Broker) -> None:
    with Plant(broker, 1) as plant, Overview(tmp_path / "fleet", broker_port=broker.port, more={"max_machines": 5}) as overview:
        overview.open(passwords=False)
        wait_until(lambda: overview.fleet()["connected"], what="the connection")
        plant.births().states()
        for topic, payload in (
            ("n-000/fan/state", "{"),
            ("n-000/fan/state", "[" * 50_000),
            ("n-000/fan/state", '{"state": "<script>", "since": "2026-01-01T00:00:00Z"}'),
            ("n-000/fan/state", '{"state": "normal", "since": "2026-99-99T99:00:00Z"}'),
            ("n-000/fan/state", '{"state": "normal", "since": "2026-01-01T00:00:00Z", "ratio": 1e999}'),
            ("n-000/fan/event", '{"id": "\\ud800"}'),
            ("n-000/status", "maybe"),
            ("n-000/info", '{"versions": {"stethos": 1}}'),
            ("n-000/fan/state", "x" * 200_000),
            ("N-000/fan/state", "{}"),
            (f"{'n' * 65}/fan/state", "{}"),
        ):
            plant.send(topic, payload, retain=False)
        for number in range(20):
            plant.send(f"extra-{number}/fan/availability", "online", retain=False)
        plant.state("n-000", "warning", 1.5)
        overview.wait_for_kind("n-000/fan", "warning")
        metrics = overview.client().get("metrics").body.decode()
        wait_until(lambda: len(overview.fleet()["rows"]) == 5, what="five machines")
        counts = {reason: f'stethos_fleet_messages_ignored_total{{reason="{reason}"}} {n}.0' for reason, n in _IGNORED.items()}
        assert {reason for reason, line in counts.items() if line not in metrics} == set(), metrics
        assert "Traceback" not in overview.log


_IGNORED = {"payload": 8, "size": 1, "topic": 2, "limit": 16}


def test_without_a_broker_nothing_is_normal_and_it_comes_back(broker: Broker, overview: Overview) -> None:
    overview.open()
    with Plant(broker, 2) as plant:
        wait_until(lambda: overview.fleet()["connected"], what="the connection")
        plant.births().states()
        overview.wait_for_kind("n-001/fan", "normal")
        broker.kill()
        row = overview.wait_for_kind("n-001/fan", "unknown")
        assert row["reason"] == "no_broker"
        assert "broker" in overview.fleet()["problem"]
    broker.start()
    with Plant(broker, 2) as plant:
        wait_until(lambda: overview.fleet()["connected"], what="the connection")
        plant.births().states()
        overview.wait_for_kind("n-001/fan", "normal")


def test_a_machine_that_is_removed_disappears(broker: Broker, overview: Overview) -> None:
    with Plant(broker, 2) as plant:
        overview.open(passwords=False)
        plant.births().states()
        wait_until(lambda: overview.fleet()["connected"], what="the connection")
        assert len(overview.fleet()["rows"]) == 2
        plant.send("n-000/fan/state", "")
        wait_until(lambda: [*overview.fleet()["rows"]] == ["n-001/fan"], what="one machine")
