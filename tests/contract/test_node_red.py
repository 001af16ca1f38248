"""configs/node-red: the flow is whole and says what the contract says; under --long Node-RED itself lets messages through."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor.json_lines import to_json
from monitor.mqtt.contract import COMMANDS
from tests.broker import Broker, free_port, running_broker, say
from tests.conftest import need
from tests.contract.wire import contract
from tests.mqtt.anomalies import anomaly
from tests.subscriber import Subscriber
from tests.waiting import wait_until

LONG = bool(os.environ.get("LONG_TESTS"))
BASE = "stethos/hall-2/fan"


@pytest.fixture
def flow(root: Path) -> list[dict[str, Any]]:
    return list(json.loads((root / "configs" / "node-red" / "stethos.json").read_text()))


def test_every_wire_leads_somewhere(flow: list[dict[str, Any]]) -> None:
    ids = [node["id"] for node in flow]
    assert len(ids) == len(set(ids))
    ends = {target for node in flow for output in node.get("wires", []) for target in output}
    assert ends <= set(ids)
    assert {node["broker"] for node in flow if node["type"].startswith("mqtt ")} == {"st-broker"}


def test_it_listens_and_speaks_where_the_contract_says(flow: list[dict[str, Any]]) -> None:
    topics = contract()["topics"]
    for node in flow:
        if node["type"] == "mqtt in":
            said = topics[node["topic"].replace("stethos/+/+", "<prefix>/<node>/<machine>")]
            assert int(node["qos"]) == said["qos"]
            assert (node["datatype"] == "json") == ("$ref" in said["payload"])
        if node["type"] == "inject":
            COMMANDS[node["topic"].split("/")[-1]].model_validate_json(node["payload"])
        if node["type"] == "mqtt out":
            assert (node["qos"], node["retain"]) == ("1", "false")


@contextmanager
def node_red(folder: Path, flow: list[dict[str, Any]], broker: Broker) -> Iterator[tuple[Path, int]]:
    """Node-RED with this flow; what it prints, and where it can be told to press a button."""
    program = os.environ.get("NODE_RED")
    need(program is not None, "NODE_RED, Node-RED's red.js (scripts/test --long installs it)")
    assert program is not None
    port, printed = free_port(), folder / "node-red.log"
    own = [{**node, "port": str(broker.port)} if node["type"] == "mqtt-broker" else node for node in flow]
    (folder / "flows.json").write_text(json.dumps(own))
    (folder / "settings.js").write_text(
        f'module.exports = {{uiHost: "127.0.0.1", uiPort: {port}, flowFile: "flows.json", userDir: "{folder}"}}'
    )
    with printed.open("w") as log:
        process = subprocess.Popen(["node", program, "--settings", str(folder / "settings.js")], stdout=log, stderr=log)
    try:
        wait_until(lambda: "Connected to broker" in printed.read_text(), 120.0)
        yield printed, port
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(not LONG, reason="installs Node-RED: --long")
def test_node_red_itself_lets_an_event_through_once_and_sends_commands(flow: list[dict[str, Any]], tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker, Subscriber(broker) as watcher, node_red(tmp_path, flow, broker) as (printed, port):
        start, _update, end = anomaly(1)
        say(broker, f"{BASE}/anomaly", "ON", "--retain")
        wait_until(lambda: "fan (hall-2) sounds unusual" in printed.read_text())
        for event in (start, start, end):
            say(broker, f"{BASE}/event", to_json(event.to_dict()))
        wait_until(lambda: "alarm end, 3.4 x the threshold; cleared" in printed.read_text())
        assert printed.read_text().count("fan: alarm start, 3.4 x the threshold; run/1: 13 dB more than usual") == 1
        for button in ("st-ack", "st-snooze"):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/inject/{button}", method="POST")
            assert urllib.request.urlopen(request, timeout=10).status == 200
        wait_until(lambda: bool(watcher.on(f"{BASE}/set/snooze")))
        assert watcher.on(f"{BASE}/set/ack") == ["{}"]
        assert json.loads(watcher.on(f"{BASE}/set/snooze")[0]) == {"duration_s": 1800}
