"""`monitor web --fleet`: settings, passwords and what is missing, each in one line with its exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.overview.rig import Overview

pytestmark = pytest.mark.waits
WITHOUT = "import sys; sys.modules[{!r}] = None; from monitor.cli.main import main; sys.exit(main(sys.argv[1:]))"


def run(config: Path, *words: str, without: str | None = None) -> "subprocess.CompletedProcess[str]":
    start = ["-m", "monitor.cli.main"] if without is None else ["-c", WITHOUT.format(without)]
    command = [sys.executable, *start, "--config", str(config), "web", "--fleet", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=30, check=False, env=environment, cwd=ROOT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("fleet: {database: 'postgresql://me:secret@db/x'}", "fleet.database must not contain a password"),
        ("fleet: {database: 'postgresql://db/x?password=secret'}", "fleet.database must not contain a password"),
        ("fleet: {database: 'mysql://me:secret@db/x'}", "fleet.database must be postgresql://USER@HOST/DATABASE, got mysql"),
        ("fleet: {groups: {hall: ['A b']}}", "fleet.groups.hall.0 must be NODE or NODE/MACHINE"),
        ("fleet: {silent_after_s: 5}", "fleet.silent_after_s must be"),
        ("mqtt: null", "the overview needs a broker, but mqtt is null"),
        ("fleet: {tls: {certificate: none.pem, key: none.key}}", "fleet.tls.certificate"),
    ],
)
def test_a_setting_that_is_wrong_is_one_line_without_secrets(settings: str, message: str, tmp_path: Path) -> None:
    config = tmp_path / "fleet.yaml"
    config.write_text(f"state_dir: {tmp_path}\n{settings}\n")
    done = run(config)
    assert done.returncode == 78, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


@pytest.mark.parametrize("library", ["sqlalchemy", "starlette"])
def test_a_missing_extra_is_one_line(library: str, tmp_path: Path) -> None:
    config = tmp_path / "fleet.yaml"
    config.write_text("fleet: {}\n")
    done = run(config, without=library)
    assert (done.returncode, done.stderr) == (
        1,
        f"monitor: error: {library} is not installed for {sys.executable}: pip install 'stethos[overview]'\n",
    )


def test_its_passwords_are_its_own_and_it_starts_without_a_broker(tmp_path: Path) -> None:
    with Overview(tmp_path / "fleet", broker_port=1) as overview:
        overview.open()
        assert (tmp_path / "fleet" / "fleet-state" / "passwords.json").exists()
        fleet = overview.fleet()
        assert (fleet["connected"], fleet["rows"]) == (False, {})
        assert overview.client().get("api/fleet").status == 401
        assert overview.stop() == 0
        assert "Traceback" not in overview.log


def test_the_daemon_and_the_page_of_a_node_load_none_of_it() -> None:
    code = "import sys, monitor.daemon.daemon, monitor.web.server; print({'sqlalchemy', 'monitor.overview'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "set()\n"


def test_the_overview_loads_no_numpy() -> None:
    code = "import sys, monitor.overview.app; print('numpy' in sys.modules, 'monitor.mqtt.messages' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False False\n"
