"""A real Prometheus scrapes the metrics, accepts the rules, and answers every query of the Grafana dashboard."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from monitor.web.metrics import CONTENT_TYPE, METRICS, metrics_text
from tests.conftest import ROOT
from tests.waiting import wait_until
from tests.web.live.prometheus import Prometheus, fired_rules, promtool, running_prometheus
from tests.web.test_metrics import DEAF, MACHINES, STATE, everything

CONFIGS = ROOT / "configs"
RULES = CONFIGS / "prometheus" / "stethos.rules.yml"


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
        """The test prints nothing."""


@dataclass
class Page:
    """What `GET /metrics` returns, and what was asked."""

    text: str
    accepted: str = ""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.accepted = environ.get("HTTP_ACCEPT", "")
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [])
            return []
        start_response("200 OK", [("Content-Type", CONTENT_TYPE)])
        return [self.text.encode()]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(everything())


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, page: Page) -> Iterator[Prometheus]:
    server = make_server("127.0.0.1", 0, page, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{server.server_port}") as found:
        yield found
    server.shutdown()
    server.server_close()


def test_prometheus_stores_every_metric_with_its_type(prometheus: Prometheus, page: Page) -> None:
    assert "application/openmetrics-text" in page.accepted
    names = set(prometheus.get("label/__name__/values"))
    assert {one.sample_name for one in METRICS} <= names
    metadata = prometheus.get("metadata")
    types = {name: metadata[name][0]["type"] for name in metadata if name.startswith("stethos_")}
    assert types == {one.name: one.kind for one in METRICS}
    (ratio,) = prometheus.query('stethos_machine_ratio{machine="fan"}')
    assert float(ratio["value"][1]) == STATE["ratio"]
    (state,) = prometheus.query('stethos_machine_state{machine="pump"} == 1')
    assert state["metric"]["state"] == DEAF["state"]


def test_every_rule_is_evaluated_and_the_alarm_fires(prometheus: Prometheus) -> None:
    def states() -> dict[str, str]:
        groups = prometheus.get("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert not [rule["lastError"] for rule in rules if rule.get("lastError")]
        return {rule["name"]: rule["state"] for rule in rules if rule["health"] == "ok"}

    n_rules = RULES.read_text().count("- alert:")
    wait_until(lambda: len(states()) == n_rules, what="all rules")
    wait_until(lambda: states()["StethosAlarm"] == "firing", what="the alarm")
    assert states()["StethosServiceDown"] == "inactive"
    assert states()["StethosMachineUnknown"] == "pending"


def test_when_the_service_is_gone_only_that_is_known(prometheus: Prometheus, page: Page) -> None:
    page.text = metrics_text(None, MACHINES, {"fan": STATE})
    try:
        wait_until(lambda: prometheus.query("stethos_up == 0"), what="stethos_up 0")
        assert prometheus.query("stethos_machine_ratio") == []
    finally:
        page.text = everything()
        wait_until(lambda: prometheus.query("stethos_machine_ratio"), what="the metrics again")


def dashboard() -> dict[str, Any]:
    return dict(json.loads((CONFIGS / "grafana" / "stethos.json").read_text()))


def expressions() -> list[str]:
    """Every query of the dashboard, with its variables replaced as Grafana does for `All`."""
    found = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    found += [one["expr"] for one in dashboard()["annotations"]["list"]]
    return [expression.replace("$instance", ".*").replace("$machine", ".*") for expression in found]


def test_every_query_of_the_dashboard_is_answered(prometheus: Prometheus) -> None:
    for expression in expressions():
        assert "$" not in expression
        if "increase" in expression:  # of the counters, which stand still here
            prometheus.query(expression)
        else:
            assert prometheus.query(expression), expression
    assert len(expressions()) > 20
    for variable in dashboard()["templating"]["list"][1:]:
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
        found = prometheus.query(series.replace("$instance", ".*"))
        assert {one["metric"][label] for one in found}


def test_every_query_of_the_page_is_answered(prometheus: Prometheus) -> None:
    rows = re.findall(r"^\| [^|`]+ \| `(.+)` \|$", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    assert len(rows) == 4
    for expression in rows:
        if "increase" not in expression:
            wait_until(partial(prometheus.query, expression), what=expression)
        assert isinstance(prometheus.query(expression), list)


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
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"


def test_a_state_is_one_number_of_the_timeline(prometheus: Prometheus) -> None:
    (timeline,) = [panel for panel in dashboard()["panels"] if panel["type"] == "state-timeline"]
    words = {key: one["text"] for key, one in timeline["fieldConfig"]["defaults"]["mappings"][0]["options"].items()}
    (expression,) = [one["expr"].replace("$instance", ".*").replace("$machine", ".*") for one in timeline["targets"]]
    found = {one["metric"]["machine"]: words[one["value"][1]] for one in prometheus.query(expression)}
    assert found == {"fan": "alarm", "pump": "unknown"}


def test_promtool_accepts_metrics_rules_and_configuration(tmp_path: Path) -> None:
    class Same(Collector):
        def collect(self) -> Any:
            return text_string_to_metric_families(everything())  # type: ignore[no-untyped-call]

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Same())
    checked = promtool("check", "metrics", given=generate_latest(registry))  # which reads the older text format only
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
    assert promtool("check", "config", CONFIGS / "prometheus" / "prometheus.yml").returncode == 0


def test_every_rule_fires_when_it_should() -> None:
    tests = Path(__file__).with_name("stethos.rules.test.yml")
    assert fired_rules(tests) == set(re.findall(r"- alert: (\w+)", RULES.read_text()))


def test_rules_and_dashboard_name_metrics_that_exist() -> None:
    known = {one.sample_name for one in METRICS}
    named = set(re.findall(r"\bstethos_\w+", RULES.read_text() + " ".join(expressions())))
    assert named <= known
