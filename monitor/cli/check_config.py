"""`monitor check-config`: print the effective settings and every problem with them."""

import argparse
import os
import sys
from pathlib import Path

import yaml

from monitor.bundle import Bundle, load_bundle
from monitor.config import Config, MachineConfig, check_settings
from monitor.daemon.bundles.adaptations import in_use
from monitor.daemon.bundles.load import exposed_files, idle_problem, service_problems
from monitor.errors import ConfigError, StethosError
from monitor.learning.report_text import duration

EXIT_REFUSED = 78


def run(arguments: argparse.Namespace) -> int:
    """`monitor check-config --config FILE`."""
    return check(arguments.config)


def check(config_path: Path | None) -> int:
    """Print the effective settings as YAML and one line per bundle; print problems to stderr. Return exit status 0 or 78.

    The settings contain no secrets, because the configuration only names files and credentials, and rejects passwords.
    """
    try:
        config, problems = check_settings(config_path, os.environ)
    except ConfigError as error:
        config, problems = None, [str(error)]
    if config is not None:
        print(
            yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True), end="", flush=True
        )
        problems = [*service_problems(config), *_missing_files(config), *_check_machines(config)]
        for line in exposed_files(config):
            print(f"monitor: warning: {line}", file=sys.stderr)
    for line in problems:
        print(f"monitor: error: {line}", file=sys.stderr)
    return EXIT_REFUSED if problems else 0


def _check_machines(config: Config) -> list[str]:
    """Print each machine's bundle; return the problems."""
    problems = (_check_bundle(name, machine, config.state_dir) for name, machine in config.machines.items())
    return [problem for problem in problems if problem is not None]


def _check_bundle(name: str, machine: MachineConfig, state_dir: Path) -> str | None:
    try:
        bundle = in_use(state_dir, name, load_bundle(machine.bundle))
    except StethosError as error:
        return f"machines.{name}.bundle: {error}"
    print(f"# {name}: {_in_words(bundle)}{_remark(machine)}")
    return idle_problem(name, machine.idle, bundle)


def _in_words(bundle: Bundle) -> str:
    manifest = bundle.manifest
    calibration = manifest.calibration
    return (
        f"{bundle.id}, {manifest.front_end.sample_rate_hz} Hz, threshold {calibration.threshold:.4g} "
        f"set on {duration(calibration.hours)} of normal sound{_adapted_by(bundle)}"
    )


def _adapted_by(bundle: Bundle) -> str:
    adapted = bundle.manifest.provenance.adapted
    return "" if adapted is None else f"; made by monitor {adapted.by} from {adapted.of}"


def _remark(machine: MachineConfig) -> str:
    if machine.microphone.startswith("index:"):
        return f"; {machine.microphone} may be another microphone after the next boot; see monitor devices"
    return "" if machine.enabled else "; disabled"


def _missing_files(config: Config) -> list[str]:
    """The files configured under `mqtt` that are missing or unreadable."""
    named = {"password_file": config.mqtt.password_file}
    if config.mqtt.tls is not None:
        named |= {f"tls.{key}": path for key, path in config.mqtt.tls}
    return [f"mqtt.{key}: {path} cannot be read" for key, path in named.items() if path and not os.access(path, os.R_OK)]
