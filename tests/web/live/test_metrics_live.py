"""The metrics of a real service, served by the real page, scraped by a real Prometheus."""

from pathlib import Path

from monitor.web.metrics import METRICS
from tests.daemon.deaf_fan import running_service
from tests.waiting import wait_until
from tests.web.live.prometheus import running_prometheus
from tests.web.page_process import VIEWER, running_page

MAY_BE_ABSENT = {  # without a sensor, in the first minutes, and while silence is the anomaly
    "stethos_node_temperature_celsius",
    "stethos_machine_drift",
    "stethos_machine_score",
}


def test_prometheus_scrapes_the_page_with_the_password_of_its_viewers(
    tmp_path: Path, demo_bundle: Path, demo_normal: Path
) -> None:
    (tmp_path / "prometheus").mkdir()
    with (
        running_service(tmp_path, demo_bundle, demo_normal) as service,
        running_page(tmp_path / "page", run=service.daemon.folder / "run") as page,
    ):
        service.configure("fan")
        service.daemon.start().ready()
        login = {"username": "prometheus", "password": VIEWER}
        with running_prometheus(tmp_path / "prometheus", f"127.0.0.1:{page.port}", basic_auth=login) as prometheus:
            alarm = 'stethos_machine_severity{machine="fan", severity="alarm"} == 1'
            wait_until(lambda: prometheus.query(alarm), within_s=60.0, what="the alarm")
            wait_until(lambda: prometheus.query('stethos_events_total{machine="fan"} == 1'), what="the counted event")
            names = {one["metric"]["__name__"] for one in prometheus.query('{__name__=~"stethos_.*"}')}
            assert {one.sample_name for one in METRICS} - names <= MAY_BE_ABSENT
            (build,) = prometheus.query("stethos_build_info")
            assert (build["metric"]["node"], build["metric"]["version"] != "") == ("pi", True)
            (machine,) = prometheus.query("stethos_machine_info")
            assert machine["metric"]["bundle"].startswith("demo-fan@")
            service.daemon.kill()
            wait_until(lambda: prometheus.query("stethos_up == 0"), within_s=60.0, what="stethos_up 0")
            assert prometheus.query("stethos_machine_ratio") == []
