"""systemd/stethos-web.service as shipped, beside the service, under a real systemd: access, sandbox, password, restart."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.system.nspawn import Container

UNITS = ROOT / "systemd"
PAGE = "http://127.0.0.1:8470"
STATE = "/var/lib/private/stethos-web"
DROP_INS = "/etc/systemd/system/stethos-web.service.d"
COMMAND = "/opt/stethos/bin/monitor --config /etc/stethos/monitor.yaml web"
CLOSED = ("/etc/stethos", "/opt/stethos", "/var/lib", "/srv/anybody", "/run/stethos")
ASK = """
import json, sys, urllib.request
request = urllib.request.Request(sys.argv[1])
for header in sys.argv[2:]:
    request.add_header(*header.split(": "))
with urllib.request.urlopen(request, timeout=20) as answer:
    while not (line := answer.readline()).startswith((b"data", b"{")):
        pass
print(line.decode().removeprefix("data: "))
"""


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """Both units, installed as docs/operating.md and docs/page.md say."""
    with Container() as container:
        for name in ("stethos", "stethos-web"):
            container.put(UNITS / f"{name}.service", f"/etc/systemd/system/{name}.service")
        container.put(ROOT / "configs" / "monitor.yaml", "/etc/stethos/monitor.yaml")
        container.put(ROOT / "models" / "demo-fan", "/etc/stethos/models/demo-fan")
        container.put(ASK, "/usr/local/lib/ask.py")
        container.put(Path(__file__).with_name("web_sandbox_probe.py"), "/usr/local/lib/probe.py")
        container.check("mkdir -m 777 /srv/anybody; systemctl daemon-reload")
        yield container


@pytest.fixture
def units(container: Container) -> Iterator[Container]:
    """Both stopped and as after their installation, the page without a password."""
    clean(container)
    yield container
    clean(container)


def clean(container: Container) -> None:
    container.check(
        f"systemctl stop stethos-web stethos; systemctl reset-failed\n"
        f"rm -rf {DROP_INS} {STATE} /var/lib/stethos-web /root/found.json; systemctl daemon-reload\n"
        "journalctl --rotate; journalctl --vacuum-time=1s"
    )


def ask(container: Container, path: str, *headers: str) -> Any:
    """What the page answers: JSON, or the first event of a stream."""
    given = " ".join(f"'{header}'" for header in headers)
    return json.loads(container.check(f"/opt/stethos/bin/python /usr/local/lib/ask.py {PAGE}/{path} {given}"))


def show(container: Container, unit: str, name: str) -> str:
    return container.check(f"systemctl show {unit} --property={name} --value")


def wait_until_connected(container: Container) -> None:
    container.wait_for(lambda: container.run(f"/opt/stethos/bin/python /usr/local/lib/ask.py {PAGE}/api/session").returncode == 0)
    container.wait_for(lambda: ask(container, "api/stream")["running"] is True)


def test_systemd_finds_nothing_wrong_with_it(units: Container) -> None:
    done = units.run("systemd-analyze verify /etc/systemd/system/stethos-web.service")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("order", ["stethos stethos-web", "stethos-web stethos"])
def test_it_reaches_the_service_whichever_starts_first(units: Container, order: str) -> None:
    for name in order.split():
        units.check(f"systemctl start {name}")
    wait_until_connected(units)
    assert list(ask(units, "api/node")["info"]["machines"]) == ["fan"]
    users = {name: units.check(f"ps -o uid=,gid= -p {show(units, name, 'MainPID')}").split() for name in order.split()}
    assert users["stethos"][0] != users["stethos-web"][0]
    assert users["stethos"][1] == users["stethos-web"][1]


def test_it_finds_the_service_again_after_a_restart_of_either(units: Container) -> None:
    units.check("systemctl start stethos stethos-web")
    for name in ("stethos", "stethos-web", "stethos"):
        wait_until_connected(units)
        units.check(f"systemctl restart {name}")
    wait_until_connected(units)


def test_nobody_else_reaches_the_socket(units: Container) -> None:
    units.check("systemctl start stethos")
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/stethos/control.sock')"
    assert units.check("stat -c %a /run/stethos/control.sock") == "660"
    done = units.run(f'setpriv --reuid=12345 --regid=12345 --clear-groups /opt/stethos/bin/python -c "{connect}"')
    assert "PermissionError" in done.stderr


def test_without_the_group_it_says_why_it_sees_nothing(units: Container) -> None:
    units.put("[Service]\nGroup=stethos-web\n", f"{DROP_INS}/test.conf")
    units.check("systemctl daemon-reload; systemctl start stethos stethos-web")
    units.wait_for(lambda: "may not access /run/stethos/control.sock" in units.journal("stethos-web"))


def test_the_sandbox_lets_it_write_its_state_and_nothing_else(units: Container) -> None:
    units.check("systemctl start stethos")
    probe = f"/opt/stethos/bin/python /usr/local/lib/probe.py {' '.join(CLOSED)}"
    instead = f"ExecStart=\nExecStart={probe}\nStandardOutput=file:/root/found.json"
    units.put(f"[Service]\nType=oneshot\nRestart=no\n{instead}\n", f"{DROP_INS}/test.conf")
    units.check("systemctl daemon-reload; systemctl start stethos-web")
    found = json.loads(units.check("cat /root/found.json"))
    assert found["write"] == dict.fromkeys(CLOSED, "EROFS") | {"/run/stethos": "EACCES"}
    assert found["read"] == {"/var/lib/private/stethos": "ENOENT", "/etc/shadow": "EACCES", "/root": "EACCES"}
    assert (found["state"], found["socket"], found["child"]) == ("done", "done", "done")
    assert found["devices"] == "ENOENT"
    assert found["uid"] > 60000


def test_a_password_opens_it_to_the_network(units: Container) -> None:
    units.check("systemctl start stethos stethos-web")
    wait_until_connected(units)
    assert "127.0.0.1:8470" in units.check("cat /proc/net/tcp | wc -l; journalctl -o cat -u stethos-web")
    units.check(f"echo 'correct horse' | {COMMAND} --set-password")
    assert ask(units, "api/session")["needs_password"] is True
    units.check("systemctl restart stethos-web")
    units.wait_for(lambda: "the page is at http://0.0.0.0:8470/" in units.journal("stethos-web"))
    assert units.check(f"stat -c '%a %u' {STATE}/passwords.json").split() == ["600", _uid(units)]


def test_a_password_may_be_set_before_the_first_start(units: Container) -> None:
    units.check(f"echo 'correct horse' | {COMMAND} --set-password; systemctl start stethos-web")
    units.wait_for(lambda: "the page is at http://0.0.0.0:8470/" in units.journal("stethos-web"))
    assert units.check(f"stat -c '%a %u' {STATE}/passwords.json").split() == ["600", _uid(units)]
    assert ask(units, "api/session")["needs_password"] is True


def _uid(container: Container) -> str:
    return container.check(f"stat -c %u /proc/{show(container, 'stethos-web', 'MainPID')}")


def test_after_a_kill_it_is_back_and_the_service_has_not_noticed(units: Container) -> None:
    units.check("systemctl start stethos stethos-web")
    wait_until_connected(units)
    service, page = (show(units, name, "MainPID") for name in ("stethos", "stethos-web"))
    units.check(f"kill -KILL {page}")
    units.wait_for(lambda: show(units, "stethos-web", "MainPID") not in ("0", page))
    wait_until_connected(units)
    assert show(units, "stethos", "MainPID") == service


def test_its_memory_is_limited_and_within_its_budget(units: Container, record_property: Callable[[str, object], None]) -> None:
    units.check("systemctl start stethos stethos-web")
    wait_until_connected(units)
    assert show(units, "stethos-web", "MemoryMax") == str(256 * 2**20)
    pss_kb = units.check(f"awk '/^Pss:/ {{print $2}}' /proc/{show(units, 'stethos-web', 'MainPID')}/smaps_rollup")
    record_property("figures", f"page: {int(pss_kb) / 1024:.1f} MB")
    assert int(pss_kb) / 1024 <= 40.0
