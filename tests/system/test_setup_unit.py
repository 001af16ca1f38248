"""`monitor setup` under a real systemd: it installs, starts and restarts both units, and passes the password of a real broker."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.system.nspawn import Container

MONITOR = "/opt/stethos/bin/monitor"
SETUP = f"{MONITOR} setup --yes --machine fan --microphone usb:0d8c:0014 --broker 127.0.0.1"  # no such microphone here
BROKER = "listener 1883 127.0.0.1\\nallow_anonymous false\\npassword_file /etc/mosquitto/passwords\\n"


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with Container() as container:
        container.check(f"printf '{BROKER}' > /etc/mosquitto/conf.d/test.conf; echo s3cr3t-word > /root/secret")
        container.check("mosquitto_passwd -b -c /etc/mosquitto/passwords stethos s3cr3t-word; chmod 644 /etc/mosquitto/passwords")
        container.check("systemctl stop mosquitto; systemctl reset-failed mosquitto; systemctl start mosquitto")
        yield container


def test_from_an_empty_etc_to_running_units_and_a_second_run_changes_only_what_is_asked(container: Container) -> None:
    done = container.run(f"{SETUP} --user stethos --password-file /root/secret", timeout_s=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stethos is installed and started." in done.stdout
    assert "stethos-web is installed and started." in done.stdout
    assert container.check("systemctl is-active stethos stethos-web").split() == ["active", "active"]
    assert container.check("systemctl is-enabled stethos stethos-web").split() == ["enabled", "enabled"]
    assert container.check("stat -c %a /etc/stethos/mqtt-password /etc/stethos/monitor.yaml").split() == ["600", "644"]
    container.wait_for(lambda: "broker connected" in container.run(f"{MONITOR} status").stdout)
    status = container.run(f"{MONITOR} status")
    assert status.returncode == 4  # the microphone is absent
    assert "plug the microphone in" in status.stdout
    again = container.run(f"{MONITOR} setup --yes", timeout_s=180)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "stethos runs already." in again.stdout
    started = container.check("systemctl show -P ActiveEnterTimestampMonotonic stethos")
    changed = container.run(f"{MONITOR} setup --yes --node other", timeout_s=180)
    assert changed.returncode == 0, changed.stdout + changed.stderr
    assert "stethos is restarted." in changed.stdout
    assert container.check("systemctl show -P ActiveEnterTimestampMonotonic stethos") != started
    found = container.check("diff /etc/stethos/monitor.yaml.bak /etc/stethos/monitor.yaml || true")
    assert re.findall(r"^> (\S+ \S+)", found, re.MULTILINE) == ["node: other"]


def test_files_that_the_service_cannot_read_are_named(container: Container) -> None:
    shipped = "/opt/stethos/bin/python -c 'from monitor.shipped import shipped; print(shipped(\"models/base\"))'"
    for place, mode in (("/home/ours", "755"), ("/srv/ours", "700")):
        container.check(f"cp -r $({shipped}) {place}; chmod {mode} {place}")
        done = container.run(f"{MONITOR} setup --yes --no-service --bundle {place}", timeout_s=180)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"Warning: the service runs as a user of its own, which cannot read {place}" in done.stdout
        container.check("cp /etc/stethos/monitor.yaml.bak /etc/stethos/monitor.yaml")
    again = container.run(f"{MONITOR} setup --yes --no-service --node again", timeout_s=180)
    assert (again.returncode, "Warning: the service" in again.stdout) == (0, False), again.stdout + again.stderr


def test_a_stopped_service_is_named_with_its_last_error(container: Container) -> None:
    container.check("systemctl stop stethos")
    container.check("logger -p daemon.err unrelated")
    done = container.run(f"{MONITOR} status --json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["running"] is False
    assert "sudo systemctl start stethos" in done.stderr
