"""systemd/stethos-update.* as shipped, with the service, under a real systemd: users, folders, doorbell, change of a bundle."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.bundle import load_bundle
from tests.conftest import ROOT
from tests.system.nspawn import Container
from tests.update.plant import changed_bundle, running_plant

UNITS = ROOT / "systemd"
STATE = "/var/lib/private/stethos-update"
STATUS = """
import json, socket
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("/run/stethos/control.sock")
    connection.sendall(b'{"do": "status"}\\n')
    print(connection.makefile().readline())
"""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that differs from the one in use."""
    return changed_bundle(ROOT / "models" / "demo-fan", tmp_path_factory.mktemp("bundles") / "other", factor=1.01)


@pytest.fixture(scope="module")
def container(other: Path) -> Iterator[Container]:
    with Container() as container:
        for path in UNITS.iterdir():
            container.put(path, f"/etc/systemd/system/{path.name}")
        config = (ROOT / "configs" / "monitor.yaml").read_text()
        container.put(config.replace("bundle: models/base\n", "bundle: models/demo-fan\n"), "/etc/stethos/monitor.yaml")
        container.put(ROOT / "models" / "demo-fan", "/etc/stethos/models/demo-fan")
        container.put(other, "/root/other")
        container.put(STATUS, "/usr/local/lib/status.py")
        container.check("systemctl daemon-reload")
        yield container


def bundle(container: Container) -> str:
    return str(json.loads(container.check("/opt/stethos/bin/python /usr/local/lib/status.py"))["machines"]["fan"]["bundle"])


def test_a_bundle_that_root_installs_belongs_to_the_update_s_user_and_the_service_uses_it(
    container: Container, other: Path
) -> None:
    assert container.run("systemd-analyze verify /etc/systemd/system/stethos-update.{service,timer,path}").stderr == ""
    container.run("systemctl start stethos-update")  # fails: no address is configured; it makes its folder
    journal = container.journal("stethos-update")
    assert "update.url must be the address" in journal
    container.check("systemctl start stethos")
    old, new = load_bundle(ROOT / "models" / "demo-fan").id, load_bundle(other).id
    assert bundle(container) == old
    monitor = "/opt/stethos/bin/monitor install-bundle --machine fan"
    words = container.check(f"{monitor} /root/other", timeout_s=200)
    assert words.startswith(f"fan: {new} installed") and words.endswith("in use")
    assert bundle(container) == new
    owners = container.check(f"find {STATE} -printf '%u %g %m %y\\n' | sort -u").splitlines()
    assert not [line for line in owners if line.startswith("root")], owners
    container.check("systemctl restart stethos")
    assert bundle(container) == new
    assert container.check(f"{monitor} --undo", timeout_s=200).endswith("in use")
    assert bundle(container) == old


def test_the_doorbell_starts_the_update(container: Container) -> None:
    container.check("systemctl start stethos stethos-update.path; journalctl --rotate; journalctl --vacuum-time=1s")
    assert container.check("systemctl is-active stethos-update.path") == "active"
    container.check("systemctl start mosquitto; mosquitto_pub -h 127.0.0.1 -q 1 -r -t stethos/workshop/bundle/desired -m '{}'")
    container.wait_for(lambda: "monitor: error:" in container.journal("stethos-update"), timeout_s=120)


def test_the_unit_installs_a_release_from_a_web_server_within_its_sandbox(
    container: Container, tmp_path: Path, other: Path
) -> None:
    with running_plant(tmp_path) as plant:
        plant.release(other, "workshop/fan")
        container.put(plant.folder, "/srv/web")
    web = "systemd-run --quiet --unit=web /opt/stethos/bin/python -m http.server 8000 --bind 127.0.0.1 --directory /srv/web"
    config = container.check("cat /etc/stethos/monitor.yaml")
    for old, new in (("url: null", "url: http://127.0.0.1:8000"), ("group: plant", "group: hall-1")):
        assert config.count(f"  {old} ") == 1
        config = config.replace(f"  {old} ", f"  {new} ")
    container.put(config, "/etc/stethos/monitor.yaml")
    container.check(f"{web}; systemctl start stethos; sleep 1")
    before = bundle(container)
    assert "trusted from now on" in container.check("/opt/stethos/bin/monitor update --trust /srv/web/metadata/1.root.json")
    container.check("journalctl --rotate; journalctl --vacuum-time=1s")
    done = container.run("systemctl start stethos-update", timeout_s=300)
    assert done.returncode == 0, container.journal("stethos-update")
    new = load_bundle(other).id
    assert f"fan: r0001: {new} installed without a comparison" in container.journal("stethos-update")
    assert bundle(container) == new != before
    container.check("systemctl stop stethos-update.path; systemctl start stethos-update", timeout_s=300)
    assert f"{new} of r0001 is in use" in container.journal("stethos-update")
