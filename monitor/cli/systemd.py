"""The units of the service and the page: install, start, and read the last error."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from monitor.cli.commands import DEFAULT_CONFIG
from monitor.errors import StethosError
from monitor.files import atomic_write
from monitor.shipped import shipped

SERVICE, PAGE = "stethos", "stethos-web"
UNITS = Path("/etc/systemd/system")
SYSTEMD = Path("/run/systemd/system")  # exists while systemd runs (sd_booted(3))
START_S = 90.0
_INSTALLED = "/opt/stethos/bin/monitor --config /etc/stethos/monitor.yaml"  # the command in the shipped units


def has_systemd() -> bool:
    """Whether systemd runs here, and its programs are installed."""
    return SYSTEMD.is_dir() and shutil.which("systemctl") is not None


def monitor_command(config: Path, *words: str) -> str:
    """The command line of this program with a configuration."""
    own = Path(sys.argv[0]).absolute()
    program = str(own) if own.name == "monitor" and os.access(own, os.X_OK) else f"{sys.executable} -m monitor.cli.main"
    given = "" if config == DEFAULT_CONFIG and own.parent == Path("/usr/bin") else f" --config {config.absolute()}"
    return " ".join([f"{program}{given}", *words])


def is_active(unit: str) -> bool:
    """Whether a unit runs."""
    return _systemctl("is-active", "--quiet", unit).returncode == 0


def start(unit: str, config: Path) -> str:
    """Install a unit if there is none, enable it, and start or restart it. StethosError with the last lines of its log."""
    done = "started"
    if _systemctl("cat", unit).returncode != 0:
        text = shipped(f"systemd/{unit}.service").read_text().replace(_INSTALLED, monitor_command(config))
        atomic_write(UNITS / f"{unit}.service", text.encode(), mode=0o644)
        done = "installed and started"
    elif is_active(unit):
        done = "restarted"
    for words in (("daemon-reload",), ("enable", "--quiet", unit), ("restart", unit)):
        result = _systemctl(*words)
        if result.returncode != 0:
            why = last_error(unit) or result.stderr.strip().partition("\n")[0]
            raise StethosError(f"{unit}: systemctl {words[0]} failed: {why}")
    return done


def last_error(unit: str) -> str | None:
    """The last error that a unit has logged since the boot, as far as this user may read the journal."""
    if shutil.which("journalctl") is None:
        return None
    command = ["journalctl", f"--unit={unit}", "--boot", "--priority=err", "--lines=1", "--output=cat", "--quiet", "--no-pager"]
    return _run(command).stdout.strip().partition("\n")[0] or None


def _systemctl(*words: str) -> "subprocess.CompletedProcess[str]":
    return _run(["systemctl", *words])


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=START_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: {error}")
