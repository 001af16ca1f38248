"""A real Prometheus with the shipped configuration, on a free port of loopback."""

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.broker import free_port
from tests.conftest import ROOT, need
from tests.waiting import wait_until

FOLDER = ROOT / "configs" / "prometheus"


@dataclass
class Prometheus:
    port: int

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.get("query", query=expression)["result"])

    def is_scraping(self) -> bool:
        with suppress(OSError):
            return any(one["value"][1] == "1" for one in self.query('up{job="stethos"}'))
        return False


@contextmanager
def running_prometheus(folder: Path, target: str, **settings: object) -> Iterator[Prometheus]:
    """One that has scraped `target`. Only addresses, times and the given settings of its job differ from the shipped ones."""
    need(shutil.which("prometheus") is not None, "Debian's prometheus")
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / one) for one in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job |= {"static_configs": [{"targets": [target]}], **settings}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    command = ["prometheus", *(f"--{key}={value}" for key, value in options.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    found = Prometheus(port)
    try:
        wait_until(found.is_scraping, within_s=60.0, what="a scrape")
        yield found
    finally:
        process.terminate()
        process.wait(30)


def promtool(*words: object, given: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    need(shutil.which("promtool") is not None, "Debian's prometheus")
    return subprocess.run(["promtool", *map(str, words)], input=given, capture_output=True, check=False)


def fired_rules(tests: Path) -> set[str]:
    """Run the unit tests of alert rules; returns the names of the rules that fire in one of them."""
    done = promtool("test", "rules", tests)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return {
        one["alertname"]
        for test in yaml.safe_load(tests.read_text())["tests"]
        for one in test["alert_rule_test"]
        if one.get("exp_alerts")
    }
