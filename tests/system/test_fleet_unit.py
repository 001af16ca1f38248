"""systemd/stethos-fleet.service as shipped, with mosquitto and a node's service, under a real systemd."""

import json
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT
from tests.system.nspawn import Container

UNITS = ROOT / "systemd"
STATE = "/var/lib/private/stethos-fleet"
ASK = """
import sys, urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8471/api/fleet", timeout=20).read().decode())
"""


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with Container() as container:
        for name in ("stethos", "stethos-fleet"):
            container.put(UNITS / f"{name}.service", f"/etc/systemd/system/{name}.service")
        container.put(ROOT / "configs" / "monitor.yaml", "/etc/stethos/monitor.yaml")
        container.put(ROOT / "models" / "demo-fan", "/etc/stethos/models/demo-fan")
        container.put(ASK, "/usr/local/lib/ask.py")
        container.check("systemctl daemon-reload; systemctl start mosquitto stethos-fleet")
        yield container


def rows(container: Container) -> dict[str, dict[str, object]]:
    done = container.run("/opt/stethos/bin/python /usr/local/lib/ask.py")
    return dict(json.loads(done.stdout)["rows"]) if done.returncode == 0 else {}


def test_it_shows_a_node_and_keeps_its_history(container: Container) -> None:
    assert container.run("systemd-analyze verify /etc/systemd/system/stethos-fleet.service").stderr == ""
    container.wait_for(lambda: "127.0.0.1:8471" in container.journal("stethos-fleet"))
    assert rows(container) == {}
    container.check("systemctl start stethos")
    container.wait_for(lambda: rows(container).get("workshop/fan", {}).get("kind") == "unknown")  # it has no microphone
    container.wait_for(lambda: container.run(f"ls {STATE}/fleet.sqlite").returncode == 0)
    owners = container.check(f"find {STATE} -printf '%u %m %y\\n' | sort -u").splitlines()
    assert not [line for line in owners if line.startswith("root")], owners


def test_after_a_kill_it_is_back(container: Container) -> None:
    before = container.check("systemctl show stethos-fleet --property=MainPID --value")
    container.check(f"kill -KILL {before}")
    container.wait_for(lambda: container.check("systemctl show stethos-fleet --property=MainPID --value") not in ("0", before))
    container.wait_for(lambda: "workshop/fan" in rows(container))


def test_a_password_opens_it_to_the_network(container: Container) -> None:
    command = "/opt/stethos/bin/monitor --config /etc/stethos/monitor.yaml web --fleet --set-password"
    container.check(f"echo 'correct horse' | {command}; systemctl restart stethos-fleet")
    container.wait_for(lambda: "http://0.0.0.0:8471/" in container.journal("stethos-fleet"))
