"""A real Prometheus scrapes the overview; its rules and the queries of the Grafana dashboard work on what it finds."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.overview.metrics import METRICS
from tests.broker import running_broker
from tests.conftest import ROOT
from tests.overview.rig import Overview, Plant
from tests.waiting import wait_until
from tests.web.live.prometheus import Prometheus, fired_rules, running_prometheus

pytestmark = pytest.mark.waits
RULES = ROOT / "configs" / "prometheus" / "stethos-fleet.rules.yml"
DASHBOARD = ROOT / "configs" / "grafana" / "stethos-fleet.json"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plant, Overview, Prometheus]]:
    """An overview of ten nodes, one with an alarm and one offline, and a Prometheus that has seen it."""
    folder = tmp_path_factory.mktemp("fleet")
    with (
        running_broker(folder) as broker,
        Plant(broker, 10) as plant,
        Overview(folder / "o", broker_port=broker.port) as overview,
    ):
        overview.open(passwords=False)
        wait_until(lambda: overview.fleet()["connected"], what="the connection")
        plant.births().states().event("n-001")
        plant.state("n-001", "alarm", 3.0)
        plant.send("n-002/status", "offline")
        overview.wait_for_kind("n-001/fan", "alarm")
        overview.wait_for_kind("n-002/fan", "offline")
        (prom := folder / "prometheus").mkdir()
        with running_prometheus(prom, f"127.0.0.1:{overview.port}") as prometheus:
            yield plant, overview, prometheus


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def expressions() -> list[str]:
    found = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    found += [one["expr"] for one in dashboard()["annotations"]["list"]]
    return [expression.replace("$instance", ".*").replace("$node", ".*") for expression in found]


def test_prometheus_stores_every_metric(scraped: tuple[Plant, Overview, Prometheus]) -> None:
    _, _, prometheus = scraped
    assert {one.sample_name for one in METRICS} <= set(prometheus.get("label/__name__/values"))
    (alarm,) = prometheus.query('stethos_fleet_machine_kind{kind="alarm"} == 1')
    assert (alarm["metric"]["node"], alarm["metric"]["machine"]) == ("n-001", "fan")
    assert prometheus.query("stethos_fleet_machine_ratio")[0]["metric"].keys() >= {"node", "machine"}
    assert len(prometheus.query("stethos_fleet_machine_ratio")) == 9  # not that of the node that is offline
    (offline,) = prometheus.query('stethos_fleet_machines{kind="offline"}')
    assert offline["value"][1] == "1"


def test_every_machine_has_a_bounded_number_of_series(scraped: tuple[Plant, Overview, Prometheus]) -> None:
    text = scraped[1].client().get("metrics").body.decode()
    per_machine = [line for line in text.splitlines() if 'node="n-005"' in line]
    assert len(per_machine) <= 18


def test_every_query_of_the_dashboard_is_answered(scraped: tuple[Plant, Overview, Prometheus]) -> None:
    _, _, prometheus = scraped
    wait_until(lambda: prometheus.query("rate(stethos_fleet_messages_total[5m])"), what="two scrapes")
    for expression in expressions():
        assert "$" not in expression
        found = prometheus.query(expression)
        assert found or "increase" in expression, expression
    assert len(expressions()) > 20
    for variable in dashboard()["templating"]["list"][1:]:
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
        assert {one["metric"][label] for one in prometheus.query(series.replace("$instance", ".*"))}


def test_the_dashboards_panels_have_ids_places_and_the_chosen_data_source() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert {target["datasource"]["uid"] for target in panel.get("targets", ())} <= {"${datasource}"}


def test_every_rule_fires_when_it_should() -> None:
    tests = Path(__file__).with_name("stethos-fleet.rules.test.yml")
    assert fired_rules(tests) == set(re.findall(r"- alert: (\w+)", RULES.read_text()))


def test_rules_and_dashboard_name_metrics_that_exist() -> None:
    known = {one.sample_name for one in METRICS}
    assert set(re.findall(r"\bstethos_\w+", RULES.read_text() + " ".join(expressions()))) <= known


def test_the_documents_list_every_metric() -> None:
    rows = re.findall(r"^\| `(stethos_fleet_\w+)` \|", (ROOT / "docs" / "overview.md").read_text(), re.MULTILINE)
    assert rows == [one.sample_name for one in METRICS]
