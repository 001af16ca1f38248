"""The Debian package under a real systemd: installation, upgrade, downgrade, removal and purge, without a question."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import __version__
from tests.conftest import ROOT
from tests.system.debian import layers_with_sound
from tests.system.nspawn import Container

APT = "apt-get -y --allow-downgrades"
CONFIG = "/etc/stethos/monitor.yaml"
SHIPPED = "/usr/share/stethos"
UNITS = ("stethos", "stethos-web")


@pytest.fixture(scope="module")
def newer(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same program as a later version, whose default configuration differs."""
    folder = tmp_path_factory.mktemp("newer")
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("Version: ", "Version: 99."))
    (default,) = tree.glob("usr/lib/**/share/configs/monitor.yaml")
    default.write_text(default.read_text() + "# of a later version\n")
    path = folder / "stethos_99_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", tree, path], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def container(deb: Path, newer: Path) -> Iterator[Container]:
    with Container(layers_with_sound()) as container:
        container.put(deb, "/root/this.deb")
        container.put(newer, "/root/newer.deb")
        yield container


@pytest.fixture
def system(container: Container) -> Container:
    """The package is installed, and its settings and units are as after the first installation."""
    if container.run("dpkg-query -Wf '${Version} ${db:Status-Status}' stethos").stdout != f"{__version__} installed":
        install(container)
    else:
        container.check(f"systemctl disable --now {' '.join(UNITS)}; cp {SHIPPED}/configs/monitor.yaml {CONFIG}")
    return container


def install(container: Container, name: str = "this") -> None:
    container.check(f"{APT} install /root/{name}.deb </dev/null", timeout_s=300)


def test_it_installs_the_command_and_its_help_and_starts_nothing(system: Container) -> None:
    assert system.check("command -v monitor") == "/usr/bin/monitor"
    assert system.check(f"cat {CONFIG}") == (ROOT / "configs" / "monitor.yaml").read_text().strip()
    for unit in UNITS:
        assert system.run(f"systemctl is-enabled {unit}; systemctl is-active {unit}").stdout.split() == ["disabled", "inactive"]
        assert system.run(f"systemd-analyze verify /lib/systemd/system/{unit}.service").stderr == ""
    assert "check-config" in system.check("man -P cat monitor")
    assert "calibrate" in system.check("fish -c 'complete -C \"monitor cal\"'")
    assert system.check("zsh -c 'autoload -Uz compinit; compinit -u; echo $_comps[monitor]'") == "_monitor"
    completed = (
        ". /usr/share/bash-completion/bash_completion; _completion_loader monitor; "
        "COMP_WORDS=(monitor rec) COMP_CWORD=1; $(complete -p monitor | grep -o -- '-F [^ ]*' | cut -c4-) monitor rec monitor; "
        "echo ${COMPREPLY[@]}"
    )
    assert system.check(completed) == "record"


def test_the_command_reads_the_installed_configuration_by_default(system: Container) -> None:
    assert "node: workshop" in system.check("monitor check-config")
    system.check(f"sed -i 's/^node: workshop/node: hall/' {CONFIG}")
    assert "node: hall" in system.check("cd / && monitor check-config")
    system.put("node: other\nmachines: {fan: {bundle: models/demo-fan}}\n", "/root/other.yaml")
    assert "node: other" in system.check("monitor --config /root/other.yaml check-config")


def test_it_needs_nothing_but_its_own_libraries_and_writes_nothing_beside_them(system: Container) -> None:
    files = "find /usr /etc -newer /root/before -type f ! -path '*/dpkg/*' ! -path '/etc/stethos/*'"
    system.check("touch /root/before; sleep 0.1")
    system.check(f"monitor --replay {SHIPPED}/demo/fan-bearing.flac --model {SHIPPED}/models/demo-fan")
    system.check("monitor check-config; monitor devices; monitor --help; monitor notify-test --help")
    assert system.check(files) == ""


def test_an_upgrade_and_a_downgrade_restart_what_runs_and_ask_nothing(system: Container) -> None:
    system.check("systemctl enable --now stethos")
    system.wait_for(lambda: system.run("test -S /run/stethos/control.sock").returncode == 0)
    system.check("echo kept >/var/lib/stethos/kept")
    for version in ("newer", "this"):
        before = system.check("systemctl show stethos --property=MainPID --value")
        install(system, version)
        assert system.check("systemctl is-active stethos; systemctl is-enabled stethos").split() == ["active", "enabled"]
        assert system.check("systemctl show stethos --property=MainPID --value") != before
        assert system.run("systemctl is-active stethos-web").stdout == "inactive\n"
        assert ("of a later version" in system.check(f"cat {CONFIG}")) == (version == "newer")
    assert system.check("cat /var/lib/stethos/kept") == "kept"


def test_an_upgrade_keeps_a_configuration_that_was_changed_or_linked(system: Container) -> None:
    system.check(f"sed -i 's/^node: workshop/node: hall/' {CONFIG}")
    before = system.check(f"cat {CONFIG}")
    install(system, "newer")
    assert system.check(f"cat {CONFIG}; ls /etc/stethos") == f"{before}\nmonitor.yaml"
    system.check(f"mv /usr/share/stethos/configs/monitor.yaml /etc/ours.yaml; ln -sf /etc/ours.yaml {CONFIG}")
    system.check("cp /etc/ours.yaml /usr/share/stethos/configs/monitor.yaml")
    install(system)
    assert system.check(f"readlink {CONFIG}") == "/etc/ours.yaml"


def test_a_removal_keeps_settings_and_state_and_a_purge_deletes_them(system: Container) -> None:
    system.check("systemctl enable --now stethos stethos-web")
    system.check("touch /var/lib/stethos/kept /etc/stethos/mqtt-password; ls /var/lib/private/stethos-web")
    system.check(f"{APT} remove stethos </dev/null")
    assert system.run("systemctl is-active stethos stethos-web").stdout.split() == ["inactive", "inactive"]
    assert system.check("cat /etc/stethos/mqtt-password; ls /var/lib/private/stethos/kept") != ""
    assert system.run("ls /usr/bin/monitor /usr/lib/stethos").stdout == ""
    install(system)
    assert system.run("systemctl is-enabled stethos; systemctl is-active stethos").stdout.split() == ["disabled", "inactive"]
    system.check(f"{APT} purge stethos </dev/null")
    left = "find / -xdev -name '*stethos*' ! -path '/root/*' ! -path '/var/log/*' ! -path '/proc/*' ! -path '/var/cache/*'"
    assert system.check(left) == ""
